-- A document stands in the cell of its own group, topic and style, and in no other.

select
    "partition",
    prompt_id,
    "group",
    topic_id,
    style,
    model
from documents
qualify (
    count(*) over (partition by prompt_id) = 1
    and topic_id = split_part("partition", ':', 1)
    and "group" = split_part(topic_id, '-', 1)
    and style = split_part("partition", ':', 2)
    and regexp_matches(model, '\S')
    and truncated is not null
) is not true
