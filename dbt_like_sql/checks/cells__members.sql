-- A cell's documents name the shard they are read from, and share one version of their template.

with versions as (
    select
        *,
        min(style_version) over (partition by "partition") as version
    from cells
)

select
    "partition",
    doc_id,
    shard,
    style_version
from versions
where (
    regexp_full_match(doc_id, '[0-9a-f]{16}')
    and regexp_full_match(shard, '[^:]+:[^:]+')
    and regexp_full_match(style_version, '[0-9a-f]{16}')
    and style_version = version
) is not true
