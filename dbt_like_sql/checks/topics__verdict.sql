-- A topic is kept or dropped for a reason: by a score of 0 to 10 and whoever gave it, or, where it
-- is curated, without either and always kept; or by hand.

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
        when model = 'override' then score is null or score between 0 and 10
        when score is null then model = '' and keep
        else score between 0 and 10 and regexp_matches(model, '\S')
    end
) is not true
