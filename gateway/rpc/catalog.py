"""CatalogService over gRPC: what there is, and what this caller would receive of it."""

from __future__ import annotations

from typing import Any, Final

import grpc

from gateway.api.v1 import catalog_service_pb2 as api
from gateway.catalogue import Catalogue
from gateway.clock import Clock
from gateway.errors import GatewayError, Reason
from gateway.exchange.admission import admit
from gateway.exchange.grants import Granted, Grants
from gateway.members import Directory
from gateway.model import Dataset, Member
from gateway.rpc.calls import describe_call, parse_request
from gateway.rpc.status import abort

TIMEOUT_S: Final = 30.0
DEFAULT_PAGE_SIZE: Final = 20
MAX_PAGE_SIZE: Final = 100


class CatalogServicer:
    """Describes datasets as the calling member may use them."""

    def __init__(self, catalogue: Catalogue, grants: Grants, directory: Directory, clock: Clock) -> None:
        self._catalogue = catalogue
        self._grants = grants
        self._directory = directory
        self._clock = clock

    async def ListDatasets(  # noqa: N802
        self, body: bytes, context: grpc.aio.ServicerContext[Any, Any]
    ) -> api.ListDatasetsResponse:
        """Answer with a page of the datasets, each with what the caller would receive of it."""
        try:
            member = self._admit(body, context)
            request = parse_request(body, api.ListDatasetsRequest)
            size = _page_size(request.page_size)
            # The token is the last name seen: listing goes on after it even if the catalogue changed.
            datasets = [item for item in self._catalogue if item.name > request.page_token]
            page = [await self._describe(item, member) for item in datasets[:size]]
            token = page[-1].name if len(datasets) > size else ""
            return api.ListDatasetsResponse(datasets=page, next_page_token=token)
        except GatewayError as error:
            await abort(context, error)
            raise

    async def GetDataset(  # noqa: N802
        self, body: bytes, context: grpc.aio.ServicerContext[Any, Any]
    ) -> api.Dataset:
        """Answer with one dataset, and what the caller would receive of it."""
        try:
            member = self._admit(body, context)
            request = parse_request(body, api.GetDatasetRequest)
            return await self._describe(self._catalogue.dataset(request.name), member)
        except GatewayError as error:
            await abort(context, error)
            raise

    def _admit(self, body: bytes, context: grpc.aio.ServicerContext[Any, Any]) -> Member:
        call = describe_call(context, body, TIMEOUT_S)
        member = admit(call, self._directory, self._clock(), role=None)
        if call.fault is not None:
            raise call.fault
        return member

    async def _describe(self, dataset: Dataset, member: Member) -> api.Dataset:
        return api.Dataset(
            name=dataset.name,
            title=dataset.title,
            description=dataset.description,
            version=dataset.version,
            tier=dataset.tier,
            citation=dataset.citation,
            fields=[
                api.Field(
                    name=field.name,
                    type=field.type.value,
                    tier=field.tier,
                    title=field.title,
                    identifier_kind=field.identifier or "",
                    lookup=field.lookup,
                )
                for field in dataset.fields.values()
            ],
            grants=[_grant(item, dataset) for item in await self._grants.of(member, dataset)],
        )


def _page_size(asked: int) -> int:
    if asked < 0:
        raise GatewayError("page_size must not be negative.", reason=Reason.REQUEST_MALFORMED)
    return min(asked or DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE)


def _grant(granted: Granted, dataset: Dataset) -> api.Grant:
    obligations = granted.decision.obligations
    return api.Grant(
        purpose=granted.purpose,
        legal_basis=granted.legal_basis,
        memorandum=granted.memorandum,
        contract=granted.contract,
        tier=granted.decision.tier,
        treatments=[
            api.FieldTreatment(
                field=name,
                treatment=obligations[name].treatment.value,
                params={key: str(value) for key, value in obligations[name].params.items()},
            )
            for name in dataset.fields
            if name in obligations
        ],
        valid_until=granted.decision.valid_until or "",
    )
