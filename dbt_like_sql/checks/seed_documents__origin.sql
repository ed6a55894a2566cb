-- A seed document names its content, its source, one of the five kinds, and a licence.

select
    "partition",
    doc_id,
    source,
    kind,
    licence
from seed_documents
where (
    regexp_full_match(doc_id, '[0-9a-f]{16}')
    and source = split_part("partition", ':', 1)
    and kind in ('web', 'outline', 'math', 'instruction', 'code')
    and regexp_matches(licence, '\S')
) is not true
