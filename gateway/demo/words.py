"""The words that synthetic companies and people are made of. Whatever exists by these names is chance."""

from __future__ import annotations

from typing import Final

EPITHETS: Final = (
    "Amber", "Ashen", "Bold", "Brass", "Bright", "Calm", "Cedar", "Clear", "Copper", "Coral", "Crimson",
    "Dapple", "Early", "Fallow", "Fern", "Gentle", "Golden", "Granite", "Hazel", "Indigo", "Ivory", "Jade",
    "Keen", "Linen", "Lunar", "Maple", "Merry", "Misty", "Noble", "Northern", "Olive", "Opal", "Plain",
    "Quiet", "Rapid", "Russet", "Saffron", "Silver", "Slate", "Steady", "Summer", "Teal", "Umber", "Velvet",
    "Verdant", "Violet", "Western", "Winter",
)  # fmt: skip

THINGS: Final = (
    "Anchor", "Anvil", "Arch", "Barge", "Beacon", "Bell", "Bridge", "Brook", "Canal", "Compass", "Crane",
    "Dale", "Delta", "Dune", "Ferry", "Field", "Forge", "Garden", "Glade", "Grove", "Harbour", "Heron",
    "Hill", "Island", "Kestrel", "Kiln", "Lagoon", "Lantern", "Loom", "Meadow", "Mill", "Orchard", "Otter",
    "Pier", "Plough", "Quarry", "Reed", "Ridge", "River", "Sail", "Spring", "Stone", "Terrace", "Thistle",
    "Tide", "Valley", "Weir", "Willow",
)  # fmt: skip

TRADES: Final = (
    ("Trading", "Wholesale and retail of household goods."),
    ("Foods", "Processing and sale of grain, oil and preserved food."),
    ("Textiles", "Weaving, dyeing and sale of cloth."),
    ("Machinery", "Manufacture and repair of machine parts."),
    ("Logistics", "Road freight, storage and customs paperwork."),
    ("Software", "Development and maintenance of computer programs."),
    ("Printing", "Printing, binding and sale of stationery."),
    ("Timber", "Sawing, seasoning and sale of timber."),
    ("Ceramics", "Making and sale of tiles and pottery."),
    ("Optics", "Manufacture of lenses and measuring instruments."),
    ("Catering", "Meals, banquets and catering services."),
    ("Construction", "Building works, fitting out and site supervision."),
    ("Seeds", "Breeding, packaging and sale of crop seeds."),
    ("Fisheries", "Fish farming, cold storage and sale of seafood."),
    ("Consulting", "Business and engineering advice."),
    ("Energy", "Installation and operation of solar equipment."),
)
"""What a company does, as its name says it and as its registered scope says it."""

FORMS: Final = (
    ("Co. Ltd", "limited company"),
    ("Co. Ltd", "limited company"),
    ("Co. Ltd", "limited company"),
    ("Corporation", "joint-stock company"),
    ("Partners", "partnership"),
    ("Cooperative", "cooperative"),
    ("Works", "sole proprietorship"),
)
"""Legal form in the name, kind in the register; the commonest stands three times."""

STATUSES: Final = ("active", "suspended", "dissolved", "revoked")

TOWNS: Final = (
    "Aldermere", "Brackenford", "Castlow", "Dunwharf", "Eastlea", "Fennimoor", "Garrowby", "Hollinsea",
    "Invermarch", "Jessamy", "Kelderwick", "Larkhaven", "Marrowdale", "Netherquay", "Ostmere", "Pellingate",
    "Quillham", "Ravensward", "Saltreach", "Tarnholme", "Ullerby", "Venmouth", "Westerlow", "Yarrowfield",
)  # fmt: skip

TREES: Final = (
    "Alder", "Aspen", "Beech", "Birch", "Chestnut", "Elder", "Elm", "Hawthorn", "Hornbeam", "Juniper",
    "Larch", "Linden", "Mulberry", "Poplar", "Rowan", "Sycamore", "Walnut", "Yew",
)  # fmt: skip

WAYS: Final = ("Close", "Crescent", "Lane", "Parade", "Quay", "Road", "Row", "Street", "Walk")

SYLLABLES: Final = (
    "ba", "bel", "cor", "da", "del", "eva", "fen", "gal", "hal", "ila", "jor", "ka", "kel", "lo", "ma",
    "mir", "na", "nor", "ola", "per", "qui", "ra", "ro", "sa", "sel", "ta", "tor", "ula", "va", "wen", "zel",
)  # fmt: skip

ENDINGS: Final = (
    "bin", "dan", "dis", "dor", "fin", "gar", "la", "lan", "len", "lis", "lor", "mar", "mon", "nen", "nis",
    "ra", "rin", "sen", "sha", "tan", "tel", "tin", "ven", "win",
)  # fmt: skip

AREA_CODES: Final = (
    "110105", "120102", "130102", "210102", "310115", "320106", "330106", "340104", "350203", "370202",
    "420106", "430104", "440106", "440305", "450103", "360102", "510107", "530102", "610113", "650102",
)  # fmt: skip
"""Areas that exist (GB/T 2260), for their provinces."""
