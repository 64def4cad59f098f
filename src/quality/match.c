/*
 * match.c
 *	  Which detection goes with which object, whatever their classes.
 *
 * Memory: all overlaps of the fullest image that pass the threshold, 16 bytes
 * each, at most; freed before the return.
 */
#include "quality/evaluate.h"

#include <stdlib.h>
#include <string.h>

typedef struct place
{
	int64_t		image;
	int32_t		index;
} place;

typedef struct pair
{
	double		overlap;
	int32_t		truth;
	int32_t		guess;
} pair;

static int
by_image(const void *pa, const void *pb)
{
	const place *a = pa,
			   *b = pb;

	if (a->image != b->image)
		return a->image < b->image ? -1 : 1;
	return a->index < b->index ? -1 : a->index > b->index;
}

static int
by_overlap(const void *pa, const void *pb)
{
	const pair *a = pa,
			   *b = pb;

	if (a->overlap != b->overlap)
		return a->overlap > b->overlap ? -1 : 1;
	if (a->guess != b->guess)
		return a->guess < b->guess ? -1 : 1;
	return a->truth < b->truth ? -1 : a->truth > b->truth;
}

static int64_t
image_end(const place *p, int64_t from, int64_t n)
{
	int64_t		to = from;

	while (to < n && p[to].image == p[from].image)
		to++;
	return to;
}

mr_code
qlt_match(const mr_env *env, const qlt_truth *truth, int64_t n_truth, const qlt_guess *guess, int64_t n_guess, double iou,
		  int32_t *truth_match, int32_t *guess_match, float *overlap, mr_status *st)
{
	place	   *t = mr_alloc(env, (n_truth + 1) * sizeof(place));
	place	   *g = mr_alloc(env, (n_guess + 1) * sizeof(place));
	pair	   *pairs = NULL;
	int64_t		room = 0;
	mr_code		code = MR_OK;

	if (t == NULL || g == NULL)
		goto nomem;
	for (int64_t i = 0; i < n_truth; i++)
	{
		t[i] = (place) {truth[i].image, (int32_t) i};
		truth_match[i] = QLT_NOBODY;
	}
	for (int64_t i = 0; i < n_guess; i++)
	{
		g[i] = (place) {guess[i].image, (int32_t) i};
		guess_match[i] = QLT_NOBODY;
		overlap[i] = 0;
	}
	qsort(t, n_truth, sizeof(place), by_image);
	qsort(g, n_guess, sizeof(place), by_image);

	for (int64_t a = 0, b = 0; a < n_truth && b < n_guess;)
	{
		int64_t		a2,
					b2,
					n = 0;

		if (t[a].image != g[b].image)
		{
			if (t[a].image < g[b].image)
				a++;
			else
				b++;
			continue;
		}
		a2 = image_end(t, a, n_truth);
		b2 = image_end(g, b, n_guess);
		if ((a2 - a) * (b2 - b) > room)
		{
			room = (a2 - a) * (b2 - b);
			mr_free(env, pairs);
			pairs = mr_alloc(env, room * sizeof(pair));
			if (pairs == NULL)
				goto nomem;
		}
		for (int64_t d = b; d < b2; d++)
		{
			if (mr_interrupted(env))
			{
				code = mr_fail(st, MR_CANCELED, "canceled");
				goto done;
			}
			for (int64_t i = a; i < a2; i++)
			{
				const qlt_truth *x = &truth[t[i].index];
				double		o = qlt_overlap(x->box, guess[g[d].index].box, x->crowd);

				if (x->crowd)
				{
					if (o > iou)
						guess_match[g[d].index] = QLT_IN_CROWD; /* unless it finds an object below */
					continue;
				}
				if (o > overlap[g[d].index])
					overlap[g[d].index] = (float) o;
				if (o > iou)
					pairs[n++] = (pair) {o, t[i].index, g[d].index};
			}
		}
		qsort(pairs, n, sizeof(pair), by_overlap);
		for (int64_t i = 0; i < n; i++)
			if (truth_match[pairs[i].truth] == QLT_NOBODY && guess_match[pairs[i].guess] < 0)
			{
				truth_match[pairs[i].truth] = pairs[i].guess;
				guess_match[pairs[i].guess] = pairs[i].truth;
				overlap[pairs[i].guess] = (float) pairs[i].overlap;
			}
		a = a2;
		b = b2;
	}
	goto done;

nomem:
	code = mr_fail(st, MR_NOMEM, "out of memory matching %lld detections", (long long) n_guess);
done:
	mr_free(env, t);
	mr_free(env, g);
	mr_free(env, pairs);
	return code;
}
