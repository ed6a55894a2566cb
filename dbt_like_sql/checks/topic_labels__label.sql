-- A label is the partition's own and was read from documents; a score comes with the model that
-- gave it.

select
    "partition",
    topic_id,
    label,
    score,
    documents,
    model
from topic_labels
where (
    topic_id = "partition"
    and regexp_matches(label, '\S')
    and regexp_matches(reason, '\S')
    and len(extracts) between 1 and documents
    and case
        when score is null then model = ''
        else score between 0 and 10 and regexp_matches(model, '\S')
    end
) is not true
