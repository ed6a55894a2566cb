-- A score is the partition's own, a share with an error (none for a single item), of no more items
-- than the benchmark has with an answer to choose.

with askable as (
    select
        benchmark,
        count(*) as items
    from benchmark_index
    where answer_idx is not null
    group by benchmark
)

select
    eval_scores."partition",
    eval_scores.metric,
    eval_scores.value,
    eval_scores.stderr,
    eval_scores.n,
    askable.items
from eval_scores
left join askable on askable.benchmark = eval_scores.task
where (
    eval_scores.recipe || ':' || eval_scores.task = eval_scores."partition"
    and eval_scores.value between 0 and 1
    and case
        when eval_scores.stderr is null then eval_scores.n = 1
        else eval_scores.stderr >= 0 and isfinite(eval_scores.stderr)
    end
    and eval_scores.n between 1 and askable.items
    and regexp_matches(eval_scores.trained_on, '\S')
) is not true
