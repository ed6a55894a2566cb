-- Loss is a number above zero, the learning rate one that is not below, and tokens grow by step.

select
    "partition",
    step,
    loss,
    learning_rate,
    tokens
from checkpoints
qualify (
    step >= 1
    and isfinite(loss) and loss > 0
    and isfinite(learning_rate) and learning_rate >= 0
    and tokens > lag(tokens, 1, 0) over (partition by "partition" order by step)
) is not true
