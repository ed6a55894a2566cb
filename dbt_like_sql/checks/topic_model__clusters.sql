-- Clusters are numbered from 0 on by size, named after their group, and have members and a rim.

with ranked as (
    select
        *,
        row_number() over parted - 1 as place,
        lag(documents, 1, documents) over parted as documents_before
    from topic_model
    window parted as (partition by "partition" order by cluster)
)

select
    "partition",
    topic_id,
    cluster,
    documents,
    rim
from ranked
where (
    cluster = place
    and documents between 1 and documents_before
    and starts_with(topic_id, "partition" || '-')
    and rim between -0.01 and 2.01  -- vectors are of unit length within 1 %
) is not true
