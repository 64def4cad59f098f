/*
 * evaluate.c
 *	  Average precision: what is matched in each image, class by class.
 *
 * Objects and guesses are sorted by class and image.  A guess's matches are two
 * bit masks a range of areas, a bit an IoU threshold: matched, and ignored
 * (with a crowd, or of another size).  A class's guesses are then walked from
 * the most confident on: evaluate_curves.c.
 *
 * Memory: 16 bytes an object, 64 a guess, and the overlaps of the fullest image.
 */
#include "quality/evaluate_int.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

const char *const qlt_area_names[QLT_AREAS] = {"all", "small", "medium", "large"};

static const double area_low[QLT_AREAS] = {0, 0, 32 * 32, 96 * 96};
static const double area_high[QLT_AREAS] = {1e10, 32 * 32, 96 * 96, 1e10};

/* The place of an object or a guess in the order of the work. */
typedef struct place
{
	int32_t		class_id;
	int64_t		image;
	float		score;			/* guesses: within an image the greatest first */
	int32_t		index;
} place;

typedef struct job
{
	const mr_env *env;
	const qlt_truth *truth;
	const qlt_guess *guess;
	place	   *t;
	place	   *g;
	qlt_seen   *seen;
	double	   *overlap;		/* guesses of an image by its objects */
	int32_t    *order;			/* objects of an image, those that count first */
	bool	   *ignore;
	bool	   *taken;
	qlt_grid   *grid;			/* of QLT_GRID + 1 */
	int			max_guesses;
} job;

double
qlt_overlap(const double *t, const double *g, bool crowd)
{
	double		w = fmin(t[2], g[2]) - fmax(t[0], g[0]);
	double		h = fmin(t[3], g[3]) - fmax(t[1], g[1]);
	double		guessed = (g[2] - g[0]) * (g[3] - g[1]);
	double		both;

	if (!(w > 0 && h > 0))
		return 0;
	both = w * h;
	return both / (crowd ? guessed : guessed + (t[2] - t[0]) * (t[3] - t[1]) - both);
}

static int
by_place(const void *pa, const void *pb)
{
	const place *a = pa,
			   *b = pb;

	if (a->class_id != b->class_id)
		return a->class_id < b->class_id ? -1 : 1;
	if (a->image != b->image)
		return a->image < b->image ? -1 : 1;
	if (a->score != b->score)
		return a->score > b->score ? -1 : 1;
	return a->index < b->index ? -1 : a->index > b->index;
}

static int
by_score(const void *pa, const void *pb)
{
	const qlt_seen *a = pa,
			   *b = pb;

	if (a->score != b->score)
		return a->score > b->score ? -1 : 1;
	return a->order < b->order ? -1 : a->order > b->order;
}

/* The thresholds as numpy.linspace() makes them: rounded otherwise, an overlap of just that value would fall on the other side. */
static inline double
iou_of(int i)
{
	return i == QLT_IOUS - 1 ? 0.95 : 0.5 + i * ((0.95 - 0.5) / (QLT_IOUS - 1));
}

static double
area_of(const qlt_truth *t)
{
	return t->area >= 0 ? t->area : (t->box[2] - t->box[0]) * (t->box[3] - t->box[1]);
}

/* One image, class and range of areas: which guesses have an object, at each threshold.  Returns the objects that count. */
static int64_t
match_image(job *j, int area, const place *t, int n_truth, const place *g, int n_guess, qlt_seen *out)
{
	int64_t		count = 0;
	int			n = 0;

	/* those that count first; both parts in their order */
	for (int pass = 0; pass < 2; pass++)
		for (int i = 0; i < n_truth; i++)
		{
			const qlt_truth *x = &j->truth[t[i].index];
			double		a = area_of(x);
			bool		ignore = x->crowd || a < area_low[area] || a > area_high[area];

			if (ignore == (pass == 1))
			{
				j->ignore[n] = ignore;
				j->order[n++] = i;
			}
		}
	while (count < n_truth && !j->ignore[count])
		count++;

	for (int d = 0; d < n_guess; d++)
		out[d].matched[area] = out[d].ignored[area] = 0;
	for (int k = 0; k < QLT_IOUS; k++)
	{
		memset(j->taken, 0, n_truth);
		for (int d = 0; d < n_guess; d++)
		{
			double		best = fmin(iou_of(k), 1 - 1e-10);
			int			match = -1;

			for (int i = 0; i < n_truth; i++)
			{
				const qlt_truth *x = &j->truth[t[j->order[i]].index];
				double		o;

				if (j->taken[i] && !x->crowd)
					continue;
				if (match >= 0 && !j->ignore[match] && j->ignore[i])
					break;		/* never rather one that does not count */
				o = j->overlap[(size_t) d * n_truth + j->order[i]];
				if (o < best)
					continue;
				best = o;
				match = i;
			}
			if (match >= 0)
			{
				j->taken[match] = true;
				out[d].matched[area] |= 1 << k;
				if (j->ignore[match])
					out[d].ignored[area] |= 1 << k;
			}
			else
			{
				const double *b = j->guess[g[d].index].box;
				double		a = (b[2] - b[0]) * (b[3] - b[1]);

				if (a < area_low[area] || a > area_high[area])
					out[d].ignored[area] |= 1 << k;
			}
		}
	}
	return count;
}

/* One class: t and g are its objects and guesses in the order of their images. */
static mr_code
evaluate_class(job *j, const place *t, int64_t n_truth, const place *g, int64_t n_guess,
			   double *precision, double *recall, qlt_precision *out, mr_status *st)
{
	int64_t		counted[QLT_AREAS] = {0};
	int64_t		n = 0,
				a = 0,
				b = 0;

	while (a < n_truth || b < n_guess)
	{
		int64_t		image = b >= n_guess || (a < n_truth && t[a].image < g[b].image) ? t[a].image : g[b].image;
		int64_t		a2 = a,
					b2 = b;
		int			nt,
					ng;

		while (a2 < n_truth && t[a2].image == image)
			a2++;
		while (b2 < n_guess && g[b2].image == image)
			b2++;
		nt = (int) (a2 - a);
		ng = (int) (b2 - b < j->max_guesses ? b2 - b : j->max_guesses);
		for (int d = 0; d < ng; d++)
		{
			const qlt_guess *x = &j->guess[g[b + d].index];

			for (int i = 0; i < nt; i++)
				j->overlap[(size_t) d * nt + i] = qlt_overlap(j->truth[t[a + i].index].box, x->box, j->truth[t[a + i].index].crowd);
			j->seen[n + d].score = x->score;
			j->seen[n + d].rank = d;
			j->seen[n + d].order = (int32_t) (n + d);
		}
		for (int area = 0; area < QLT_AREAS; area++)
			counted[area] += match_image(j, area, t + a, nt, g + b, ng, j->seen + n);
		n += ng;
		a = a2;
		b = b2;
		if (mr_interrupted(j->env))
			return mr_fail(st, MR_CANCELED, "canceled");
	}
	qsort(j->seen, n, sizeof(qlt_seen), by_score);
	for (int area = 0; area < QLT_AREAS; area++)
	{
		qlt_precision *o = &out[area];

		memset(o, 0, sizeof(*o));
		o->n_truth = counted[area];
		if (counted[area] == 0)
		{
			for (int k = 0; k < QLT_IOUS; k++)
				o->ap[k] = o->recall[k] = NAN;
			for (int64_t i = 0; i < n; i++)
				o->n_guess += !(j->seen[i].ignored[area] & 1);
			for (int r = 0; r < QLT_RECALLS; r++)
				o->curve[r] = o->curve_score[r] = NAN;
			o->recall_1 = o->recall_10 = o->f1 = o->f1_precision = o->f1_recall = o->threshold = NAN;
			continue;
		}
		for (int k = 0; k < QLT_IOUS; k++)
		{
			qlt_accumulate(j->seen, n, counted[area], area, k, o, precision, recall);
			if (mr_interrupted(j->env))
				return mr_fail(st, MR_CANCELED, "canceled");
		}
		qlt_best_point(j->seen, n, counted[area], area, o);
		if (area == 0)
			qlt_add_to_grid(j->seen, n, counted[area], j->grid);
		o->recall_1 = qlt_recall_of_few(j->seen, n, counted[area], area, 1);
		o->recall_10 = qlt_recall_of_few(j->seen, n, counted[area], area, 10);
	}
	return MR_OK;
}

static int64_t
class_end(const place *p, int64_t from, int64_t n, int32_t class_id)
{
	while (from < n && p[from].class_id == class_id)
		from++;
	return from;
}

/* The most of one class in one image. */
static int
fullest(const place *p, int64_t n)
{
	int64_t		most = 0;

	for (int64_t i = 0, first = 0; i < n; i++)
	{
		if (p[i].class_id != p[first].class_id || p[i].image != p[first].image)
			first = i;
		if (i - first + 1 > most)
			most = i - first + 1;
	}
	return (int) most;
}

mr_code
qlt_evaluate(const mr_env *env, const qlt_truth *truth, int64_t n_truth, const qlt_guess *guess, int64_t n_guess,
			 int max_guesses, qlt_evaluation *out, mr_status *st)
{
	job			j = {.env = env,.truth = truth,.guess = guess,.max_guesses = max_guesses};
	double	   *curves = NULL;
	int			most_truth,
				most_guess;
	mr_code		code = MR_OK;

	memset(out, 0, sizeof(*out));
	for (int64_t i = 0; i < n_guess; i++)
		if (isnan(guess[i].score))
			return mr_fail(st, MR_INVALID, "the confidence of a detection must be a number");
	j.t = mr_alloc(env, (n_truth + 1) * sizeof(place));
	j.g = mr_alloc(env, (n_guess + 1) * sizeof(place));
	if (j.t == NULL || j.g == NULL)
		goto nomem;
	for (int64_t i = 0; i < n_truth; i++)
		j.t[i] = (place) {truth[i].class_id, truth[i].image, 0, (int32_t) i};
	for (int64_t i = 0; i < n_guess; i++)
		j.g[i] = (place) {guess[i].class_id, guess[i].image, guess[i].score, (int32_t) i};
	qsort(j.t, n_truth, sizeof(place), by_place);
	qsort(j.g, n_guess, sizeof(place), by_place);

	for (int64_t a = 0, b = 0; a < n_truth || b < n_guess; out->n_classes++)
	{
		int32_t		c = b >= n_guess || (a < n_truth && j.t[a].class_id < j.g[b].class_id) ? j.t[a].class_id : j.g[b].class_id;

		a = class_end(j.t, a, n_truth, c);
		b = class_end(j.g, b, n_guess, c);
	}
	most_truth = fullest(j.t, n_truth);
	most_guess = fullest(j.g, n_guess);
	if (most_guess > max_guesses)
		most_guess = max_guesses;
	out->at = mr_alloc(env, (size_t) (out->n_classes + 1) * QLT_AREAS * sizeof(qlt_precision));
	j.seen = mr_alloc(env, (n_guess + 1) * sizeof(qlt_seen));
	j.overlap = mr_alloc(env, ((size_t) most_truth * most_guess + 1) * sizeof(double));
	j.order = mr_alloc(env, (most_truth + 1) * sizeof(int32_t));
	j.ignore = mr_alloc(env, most_truth + 1);
	j.taken = mr_alloc(env, most_truth + 1);
	j.grid = mr_alloc(env, (QLT_GRID + 1) * sizeof(qlt_grid));
	curves = mr_alloc(env, 2 * (n_guess + 1) * sizeof(double));
	if (!out->at || !j.seen || !j.overlap || !j.order || !j.ignore || !j.taken || !j.grid || !curves)
		goto nomem;
	memset(j.grid, 0, (QLT_GRID + 1) * sizeof(qlt_grid));

	for (int64_t a = 0, b = 0, k = 0; code == MR_OK && k < out->n_classes; k++)
	{
		int32_t		c = b >= n_guess || (a < n_truth && j.t[a].class_id < j.g[b].class_id) ? j.t[a].class_id : j.g[b].class_id;
		int64_t		a2 = class_end(j.t, a, n_truth, c);
		int64_t		b2 = class_end(j.g, b, n_guess, c);
		qlt_precision *of_class = out->at + k * QLT_AREAS;

		code = evaluate_class(&j, j.t + a, a2 - a, j.g + b, b2 - b, curves, curves + n_guess + 1, of_class, st);
		for (int area = 0; area < QLT_AREAS; area++)
			of_class[area].class_id = c;
		a = a2;
		b = b2;
	}
	if (code == MR_OK)
		qlt_average(out, j.grid);
	goto done;

nomem:
	code = mr_fail(st, MR_NOMEM, "out of memory evaluating %lld detections", (long long) n_guess);
done:
	mr_free(env, j.t);
	mr_free(env, j.g);
	mr_free(env, j.seen);
	mr_free(env, j.overlap);
	mr_free(env, j.order);
	mr_free(env, j.ignore);
	mr_free(env, j.taken);
	mr_free(env, j.grid);
	mr_free(env, curves);
	if (code != MR_OK)
	{
		mr_free(env, out->at);
		out->at = NULL;
	}
	return code;
}
