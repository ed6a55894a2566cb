-- A topic is kept or dropped for a reason: by a score of 0 to 10 and the model that gave it, or,
-- where it is curated, without either and always kept.

select
    "partition",
    topic_id,
    score,
    keep,
    reason,
    model
from topics
where (
    keep is not null
    and regexp_matches(reason, '\S')
    and case
        when score is null then model = '' and keep
        else score between 0 and 10 and regexp_matches(model, '\S')
    end
) is not true
