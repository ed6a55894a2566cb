-- A topic is the partition's own, has a label, and documents that its label was read from.

select
    "partition",
    topic_id,
    label,
    documents,
    kinds
from topics
where (
    topic_id = "partition"
    and "group" = split_part("partition", '-', 1)
    and regexp_matches(label, '\S')
    and len(kinds) > 0
    and len(extracts) between 1 and documents
) is not true
