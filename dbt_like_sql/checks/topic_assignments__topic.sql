-- A document has a topic whose name can be a partition's; only one that was clustered may have none.

select
    "partition",
    doc_id,
    topic_id,
    distance
from topic_assignments
where (
    case
        when topic_id is null then distance is not null
        else regexp_full_match(topic_id, '[a-z0-9_]+-[a-z0-9_]+')
    end
    -- vectors are of unit length within 1 %
    and coalesce(distance between -0.01 and 2.01, true)
) is not true
