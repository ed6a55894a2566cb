"""The stock sentences of the rehearsal; terms go into ``{a}`` and ``{b}``, names into the rest."""

from __future__ import annotations

_EXPLAIN = """\
the easiest way into {a} is to ask what would be different if {b} did not exist at all
{a} is best understood as a relation between parts rather than as a thing standing by itself
a first definition of {a} need not be perfect; it only has to be sharp enough to be tested
people who meet {b} for the first time tend to overlook how much it depends on {a}
two observations about {a} are worth keeping apart, because they rest on different evidence
the word {b} hides a choice, and most disagreements begin where that choice was made
it helps to draw {a} as a simple diagram, with one arrow for every influence one can name
a small change in {b} can leave {a} untouched for a long while and then alter it at once
what looks like an exception turns out to be the same rule seen from the side of {b}
historians of the subject like to point out that {a} was described long before it was explained
anyone can check this with pencil and paper: list the cases, cross out those without {b}
the link between {a} and {b} is strong enough to be useful and weak enough to be misread
no single measurement settles the matter, but several that agree make {a} hard to doubt
if the account so far is right, then {b} should become rarer wherever {a} is absent
the counter-argument deserves a fair hearing, since {b} sometimes behaves in just that way
teachers often save this point for last, although everything about {a} leans on it
there is a cheaper explanation, and it fails for a reason that teaches something about {b}
imagine that {a} were doubled overnight and ask which of its effects would double as well
the difference between having {a} and merely naming it shows up as soon as a decision is due
a careful reader will notice that {b} entered the argument before it was introduced
most mistakes here come from treating {a} as a quantity when it is really a condition
the order of the steps matters, for {b} can only be judged once {a} is in place
seen over a longer period, {a} moves slowly, and its slow movement is what makes it reliable
one can learn a good deal about {b} by looking at the places where it breaks down
none of this makes {a} simple, yet it makes the difficulty visible and therefore workable
the usual picture leaves out cost, and cost is exactly where {b} earns its place
a worked case shows the idea better than a rule, so let us follow {a} through one
in the first stage very little happens, which is why {b} is so easily missed
in the second stage the parts begin to constrain each other and {a} takes its final form
by the third stage the question is no longer whether {b} matters but how much
where the numbers are known, they suggest that {a} accounts for roughly half of the effect
where they are not known, the honest answer is a range, and {b} sets its upper end
several fields arrived at {a} independently, each with its own vocabulary
the boundary around {b} is fuzzy, and insisting on a sharp one would only move the problem
it is tempting to stop here, but {a} has a second role that is seldom mentioned
that second role concerns time: {b} decides when a thing happens, not only whether
a good test for any claim about {a} is to state what observation would prove it wrong
the evidence comes from three directions, and only the last of them mentions {b} by name
some details remain open, among them how {a} behaves when conditions change quickly
the practical lesson is modest: watch {b} first, and adjust {a} only when it has settled
an analogy may help, provided one remembers where the likeness between {a} and {b} ends
think of {a} as a bridge that is safe at any moment only because of what lies under it
this is also why advice about {b} that works in one town may do harm in the next
the argument has a hidden premise, namely that {a} can be separated from its surroundings
take the premise away and {b} becomes the more interesting half of the question
measured against everyday experience the claim sounds odd, until one recalls {a}
what survives criticism is a narrower statement about {b}, and a more dependable one
beginners ask what {a} is, and experts ask under which conditions it stays that way
a table with two columns, one for {a} and one for {b}, makes the pattern plain
reading the same facts backwards gives a quick check, because {b} should then come out first
the cost of being wrong about {a} is not evenly shared, and that shapes who studies it
each of these points can be defended alone, but together they say more about {b}
it would be a mistake to call this progress, since {a} gained only what {b} lost
when {a} and {b} are plotted against each other the curve bends, and the bend is the story
the name is younger than the thing, so older descriptions of {a} use other words
laboratories, workshops and kitchens have all found their own way of handling {b}
a rule of thumb follows: the closer one stands to {a}, the less one sees of {b}
the remaining doubt is healthy, since it keeps {a} from turning into a slogan
whoever has to explain {b} to a child soon finds out which parts were never clear
what began as a remark about {a} has become a way of asking better questions
the next question is obvious, and answering it requires a closer look at {b}
to see the size of the effect, compare a case rich in {a} with one that lacks it
the comparison is fair only if both cases are otherwise alike, which {b} makes difficult
mathematically the situation is ordinary: one unknown, {a}, and more conditions than needed
words such as always and never should be avoided here, for {b} tolerates neither
the shortest summary is that {a} limits what can happen and {b} selects what does
at this point a sketch of the whole is possible, with {a} at its centre
it pays to ask who first needed {b}, since the need explains most of its features
a reader in a hurry may skip the derivation, but not the warning about {a}
the same reasoning carries over to neighbouring topics where {b} goes by another name
one more case, the most stubborn of all, shows {a} without any of its usual companions
that case was long considered a nuisance, and it is now the best evidence for {b}
small studies gave mixed results, and larger ones mostly sided with {a}
the disagreement was never about facts, it was about which facts concern {b}
good notes on {a} record what was expected as well as what was seen
after a week of practice the vocabulary fades into the background and {b} remains
every rule stated so far has a price, and the price is usually paid in {a}
looking ahead, the open problem is to predict {b} from what is known beforehand
nothing in this account depends on taste, although the choice of examples for {a} does
it is fair to ask for a number, and fair to answer that {b} does not have one yet
the chain is only as strong as its middle link, and the middle link is {a}
with that in hand, the earlier puzzle about {b} loses most of its mystery
a second opinion is cheap here, since anyone can repeat the check on {a} at home"""

_LEADS = """\
in practice, |at the same time, |more often than not, |for a start, |put differently, |even so, |\
on reflection, |as a result, |in the long run, |strictly speaking, |from this angle, |to be fair, |\
by contrast, |in the same spirit, |for that reason, |up to a point, |as it happens, |all told, """

_STORY = """\
{n} had not meant to stay, but the question about {a} would not leave the room
the rain had stopped, and {m} spread the papers on {b} across the kitchen table
nobody in the village spoke of {a} that evening, which told {n} more than talk would have
{m} walked home by the long road and counted the things that {b} could not explain
the plan was simple, and like most simple plans it forgot about {a}
by morning the quarrel over {b} had shrunk to something that fitted in a pocket
{n} kept a list of small kindnesses, and the newest line on it concerned {a}
it took courage to admit the error, and {m} found that courage somewhere near {b}
the old clock struck four, and {n} understood that {a} had been there all along
what they found was not what they had hoped for, yet {b} had taught them to look
{m} laughed, because the answer had been lying on the shelf beside {a} for years
the children asked why, and then why again, until {b} became clear to everyone
on the way back the two friends agreed that {a} was worth a second try
it did not end as {n} had wished, but it ended with a better question about {b}
the neighbour shook her head at {a}, then went to fetch a lamp and a chair
for three days {m} wrote down everything that happened around {b}, good and bad"""

_TALK = """\
"Do you think {a} could have been different?" asked {n}.
"Tell me about {b} again, but slowly this time," said {m}.
"I was wrong about {a}," {n} admitted, "and I would rather know it than not."
"Nobody told me that {b} takes patience," {m} said with a sigh.
"Then we start with {a}," answered {n}, "because it is the part we understand."
"What would you do in my place?" {m} wanted to know, pointing at {b}.
"Look closely," whispered {n}, "{a} is never only one thing."
"If {b} fails again, we share the blame," said {m}, and meant it."""

_STEPS = """\
gather everything that has to do with {a} in one place before you begin, so nothing is missing
check {b} first, because a fault found now costs minutes and the same fault later costs hours
work on {a} in short rounds and stop after each one to compare the result with the goal
write down the starting point of {b}; without it you cannot tell whether the change helped
change one thing at a time, leaving {a} alone while you look after {b}
if {a} resists, go back one step instead of pressing on, and look for what was skipped
ask somebody else to try {b} from your notes, since their questions show you the gaps
leave {a} to rest for a while, then judge it again with fresh eyes and in good light
keep a small reserve of {b} in case the first attempt has to be repeated
clean up as you go, so that {a} stays visible and mistakes cannot hide
when {b} looks right, test it under the worst conditions you expect, not the best
finish by noting what you would do differently with {a} the next time"""

_BLOG = """\
I used to think {a} was a matter of taste, and then I spent a month keeping count
here is the part of {b} that most articles leave out, perhaps because it is not flattering
a friend put it to me over coffee: {a} is easy to praise and awkward to pay for
three weeks in, I noticed that {b} had quietly changed the way I plan my mornings
let me be honest about the cost of {a}, because somebody should be
if you take one thing away from this post, let it be a little more patience with {b}
my notes from that week are messy, but {a} turns up on every page
you may disagree, and I would like to hear why {b} looks different from where you stand
the first version of this post was angrier about {a}, and it was also less useful
what changed my mind about {b} was not an argument but an afternoon of watching"""

_CODE = """\
the function below does one thing to {a} and leaves everything else as it was
note that the empty case is handled first, since {b} would otherwise fail far from its cause
naming the intermediate result makes the role of {a} clear without a comment
a loop over {b} reads well for small inputs; for large ones a dictionary saves time
run the example by hand for two or three values of {a} before trusting it
the test states what should happen to {b}, which is also the best documentation
complexity grows with the number of items in {a}, not with the size of each item
an error is raised instead of returning a default, so a wrong {b} cannot pass unnoticed"""

_SNIPPETS = '''\
def count_{f}(items):
    """Count how often each item occurs."""
    counts = {{}}
    for item in items:
        counts[item] = counts.get(item, 0) + 1
    return counts

---
def mean_{f}(values):
    """Return the mean, refusing an empty list."""
    if not values:
        raise ValueError("no {f} given")
    return sum(values) / len(values)

---
def longest_{f}(words):
    """Return the longest word, the first of equals."""
    best = ""
    for word in words:
        if len(word) > len(best):
            best = word
    return best

---
class {F}:
    """A whole made of parts."""

    def __init__(self, parts):
        self.parts = list(parts)

    def total(self):
        return sum(part.size for part in self.parts)
'''

_INTROS = """\
One passage is worth having in full.|The source puts it this way.|Here are the words themselves.|\
Consider the following account.|The starting point was this text.|It was written down like this.|\
A closer reading begins here.|This is how it was first described."""

_HEADINGS = """\
What {a} means|How {a} and {b} are related|The role of {b}|Looking closer at {a}|\
{b} in everyday use|Where {a} reaches its limits|An example with {b}|Questions about {a}|\
From {a} to {b}|Why {b} matters|A short history of {a}|Common mistakes with {b}|\
What is left to ask about {a}"""

_NAMES = "Mara Tobias Ines Jonah Leila Pavel Ruth Samir Greta Anouk Elias Noor Hanna Oskar"

_PLAIN = """\
about above after again against almost along already also although always among another any around
because been before being below best between both called came cannot come could does doesn doing
done down during each either else enough even ever every first following found from full gave
general give given gives goes going good great have having here high himself however http https
into isn itself just keep kind know known last later least less like likely little long look made
make makes making many might more most much must need never next none nothing often okay once only
open other others over part people perhaps place point possible really right said same says second
seem seems several shall should show since small some something sometimes soon still such sure take
talk than that their them themselves then there therefore these they thing things think this those
though three through thus time times together too toward under until upon used using usually very
want wasn well went were what when where whether which while whole whose will with within without
word words work would write written year years your yours"""

EXPLAIN = tuple(_EXPLAIN.split("\n"))
LEADS = tuple(_LEADS.split("|"))
# A genre's own sentences, mixed with those that explain.
OWN = {
    "code": tuple(_CODE.split("\n")),
    "howto": tuple(_STEPS.split("\n")),
    "blog": tuple(_BLOG.split("\n")),
    "story": tuple(_STORY.split("\n")),
}
TALK = tuple(_TALK.split("\n"))
INTROS = tuple(_INTROS.split("|"))
HEADINGS = tuple(_HEADINGS.split("|"))
SNIPPETS = tuple(_SNIPPETS.rstrip().split("\n\n---\n"))
NAMES = tuple(_NAMES.split())
PLAIN = frozenset(_PLAIN.split())  # words that say nothing about a topic
