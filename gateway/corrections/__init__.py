"""Corrections: who received a record hears that it was corrected or withdrawn, and answers for it.

The exchange notes, page by page, who receives which record (`noting`, `register`, `tokens`). The holder
announces (`announcing`), each recipient is told what it got (`telling`, `departures`) on its stream
(`watching`) and answers (`answering`); what is open is listed (`overseeing`). See docs/corrections.md.
"""
