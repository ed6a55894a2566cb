-- A cell's documents name the shard they are read from, and share one topic and one version of
-- their template.

with shared as (
    select
        *,
        min(topic) over (partition by "partition") as cell_topic,
        min(style_version) over (partition by "partition") as cell_version
    from cells
)

select
    "partition",
    doc_id,
    shard,
    topic,
    style_version
from shared
where (
    regexp_full_match(doc_id, '[0-9a-f]{16}')
    and regexp_full_match(shard, '[^:]+:[^:]+')
    and regexp_matches(topic, '\S')
    and topic = cell_topic
    and style_version = cell_version
) is not true
