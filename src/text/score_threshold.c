/*
 * score_threshold.c
 *	  Thresholds of quality gates.  See score_threshold.h.
 */
#include "text/score_threshold.h"

#include <math.h>
#include <string.h>

/* Merge sort by score, ascending; interruptible, unlike qsort(). */
static mr_code
sort_examples(const mr_env *env, txt_judged *example, int64_t n, mr_status *st)
{
	txt_judged *from = example,
			   *to = mr_alloc(env, (size_t) n * sizeof(txt_judged)),
			   *spare = to;

	if (to == NULL)
		return mr_fail(st, MR_NOMEM, "out of memory");
	for (int64_t run = 1; run < n; run *= 2)
	{
		txt_judged *swap;

		for (int64_t at = 0; at < n; at += 2 * run)
		{
			int64_t		middle = at + run < n ? at + run : n,
						end = at + 2 * run < n ? at + 2 * run : n,
						a = at,
						b = middle;

			for (int64_t i = at; i < end; i++)
			{
				to[i] = b >= end || (a < middle && from[a].score <= from[b].score) ? from[a++] : from[b++];
				if ((i & 0xffff) == 0 && mr_interrupted(env))
				{
					mr_free(env, spare);
					return mr_fail(st, MR_CANCELED, "canceled");
				}
			}
		}
		swap = from;
		from = to;
		to = swap;
	}
	if (from != example)
		memcpy(example, from, (size_t) n * sizeof(txt_judged));
	mr_free(env, spare);
	return MR_OK;
}

/* How bad a threshold is that rejects so many. */
static double
loss(txt_criterion criterion, const txt_threshold *t, int64_t rejected_good, int64_t rejected_bad)
{
	double		good_rejected = (double) rejected_good / t->good,
				bad_accepted = 1 - (double) rejected_bad / (t->n - t->good);

	return criterion == TXT_YOUDEN ? good_rejected + bad_accepted : fabs(good_rejected - bad_accepted);
}

mr_code
txt_find_threshold(const mr_env *env, txt_judged *example, int64_t n, txt_criterion criterion,
				   txt_threshold *out, mr_status *st)
{
	txt_threshold t = {.n = n};
	double		least_loss = INFINITY,
				wins = 0;
	int64_t		good = 0,
				bad = 0;		/* at or below the score at hand */

	for (int64_t i = 0; i < n; i++)
	{
		t.good += example[i].good;
		if (!isfinite(example[i].score))
			return mr_fail(st, MR_INVALID, "a score is not finite");
	}
	if (t.good == 0 || t.good == n)
		return mr_fail(st, MR_INVALID, "all of the %lld examples were judged %s: a threshold needs both kinds", (long long) n,
					   t.good == 0 ? "wrong" : "correct");
	if (sort_examples(env, example, n, st) != MR_OK)
		return st->code;
	t.least = example[0].score;
	t.greatest = example[n - 1].score;
	if (t.least == t.greatest)
		return mr_fail(st, MR_INVALID, "all examples have the score %g", t.least);
	for (int64_t i = 0, next; i < n; i = next)
	{
		int64_t		good_here = 0;
		double		l;

		for (next = i; next < n && example[next].score == example[i].score; next++)
			good_here += example[next].good;
		wins += good_here * (bad + 0.5 * (next - i - good_here));
		good += good_here;
		bad += next - i - good_here;
		if (next == n)
			break;
		l = loss(criterion, &t, good, bad);
		if (l < least_loss)
		{
			least_loss = l;
			t.threshold = (example[i].score + example[next].score) / 2;
			t.false_rejects = good;
			t.false_accepts = n - t.good - bad;
		}
	}
	t.auc = wins / ((double) t.good * (n - t.good));
	*out = t;
	return MR_OK;
}

txt_scale
txt_scale_of(const txt_threshold *t)
{
	double		low = fmin(0, t->least),
				high = fmax(1, t->greatest);

	if (low >= t->threshold)	/* cannot be: the threshold is above the least score */
		low = t->threshold - 1;
	return (txt_scale) {3, {low, t->threshold, high}, {0, TXT_GATE, 1}};
}

double
txt_scale_apply(const txt_scale *s, double raw)
{
	int			i = 1;

	if (!(raw > s->raw[0]))
		return s->calibrated[0];
	if (raw >= s->raw[s->n - 1])
		return s->calibrated[s->n - 1];
	while (raw >= s->raw[i])
		i++;
	return s->calibrated[i - 1] +
		(raw - s->raw[i - 1]) / (s->raw[i] - s->raw[i - 1]) * (s->calibrated[i] - s->calibrated[i - 1]);
}

bool
txt_scale_is_valid(const txt_scale *s)
{
	for (int i = 0; i < s->n; i++)
		if (!isfinite(s->raw[i]) || !isfinite(s->calibrated[i]) ||
			(i > 0 && (s->raw[i] <= s->raw[i - 1] || s->calibrated[i] <= s->calibrated[i - 1])))
			return false;
	return s->n >= 2;
}
