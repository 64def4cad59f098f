/*
 * test_quality_evaluate.c
 *	  Average precision and matching: cases worked out by hand, and that odd
 *	  boxes do no harm.  Equality with pycocotools: t/test_detection_metrics.py.
 */
#include "quality/evaluate.h"
#include "unit.h"

#include <math.h>

static mr_status st;

static bool
near(double a, double b)
{
	return fabs(a - b) < 1e-9;
}

static void
by_hand(void)
{
	qlt_truth	t[] = {
		{1, 0, {0, 0, 10, 10}, -1, false},
		{1, 0, {20, 0, 30, 10}, -1, false},
		{2, 0, {0, 0, 10, 10}, -1, false},
		{2, 0, {50, 50, 90, 90}, -1, true},
	};
	qlt_guess	g[] = {
		{1, 0, {0, 0, 10, 8}, 0.9f},	/* IoU 0.8 */
		{1, 0, {0, 0, 10, 10}, 0.8f},	/* IoU 1, of the same object */
		{2, 0, {60, 60, 70, 70}, 0.7f}, /* in the crowd */
		{2, 0, {0, 0, 10, 6}, 0.6f},	/* IoU 0.6 */
		{2, 7, {0, 0, 10, 10}, 0.5f},
	};
	qlt_evaluation e;
	const qlt_precision *p;

	ok(qlt_evaluate(&mr_env_malloc, t, 4, g, 5, 100, &e, &st) == MR_OK && e.n_classes == 2, "two classes");
	p = &e.at[0];
	ok(p->class_id == 0 && p->n_truth == 3 && p->n_guess == 3, "the crowd and what lies in it do not count");
	/* at 0.50: hit, false, hit: precision 1 up to recall 1/3, 2/3 up to 2/3 */
	ok(near(p->ap[0], (34 * 1 + 33 * 2.0 / 3) / 101), "AP at IoU 0.50: %f", p->ap[0]);
	/* at 0.65: the last is none; at 0.85: the first neither, then the second has the object */
	ok(near(p->ap[3], 34.0 / 101), "AP at IoU 0.65: %f", p->ap[3]);
	ok(near(p->ap[7], 34 * 0.5 / 101), "AP at IoU 0.85: %f", p->ap[7]);
	ok(near(p->recall[0], 2.0 / 3) && near(p->f1, 2.0 / 3) && near(p->threshold, 0.6f), "recall, best F1 and its threshold: %f %f %f", p->recall[0], p->f1, p->threshold);
	ok(e.at[QLT_AREAS].class_id == 7 && isnan(e.at[QLT_AREAS].ap[0]) && near(e.mean[0].ap[0], p->ap[0]), "a class without objects has no precision, and no part in the mean");
	mr_free(&mr_env_malloc, e.at);
}

static void
pairs(void)
{
	qlt_truth	t[] = {{1, 0, {0, 0, 10, 10}, -1, false}, {1, 1, {2, 0, 12, 10}, -1, false}, {9, 1, {0, 0, 1, 1}, -1, false}};
	qlt_guess	g[] = {{1, 1, {1, 0, 11, 10}, 0.5f}, {1, 0, {2, 0, 12, 10}, 0.1f}, {3, 0, {0, 0, 5, 5}, 0.9f}};
	int32_t		tm[3],
				gm[3];
	float		o[3];

	ok(qlt_match(&mr_env_malloc, t, 3, g, 3, 0.45, tm, gm, o, &st) == MR_OK, "matched");
	ok(tm[1] == 1 && gm[1] == 1 && tm[0] == 0 && gm[0] == 0 && near(o[1], 1), "the best overlap first, whatever class and confidence");
	ok(tm[2] == QLT_NOBODY && gm[2] == QLT_NOBODY && o[2] == 0, "other images have nothing to do with each other");
}

/* Anything that a file may say. */
static double
odd(unsigned *seed)
{
	static const double values[] = {0, 1, -1, 1e30, -1e30, NAN, INFINITY, -INFINITY, 1e-320, 10, 20, 30, 0.5};

	*seed = *seed * 1103515245 + 12345;
	return values[(*seed >> 16) % (sizeof(values) / sizeof(values[0]))];
}

static void
odd_boxes(void)
{
	unsigned	seed = 1;
	bool		good = true;

	for (int round = 0; round < 200; round++)
	{
		qlt_truth	t[40];
		qlt_guess	g[60];
		int32_t		tm[40],
					gm[60];
		float		o[60];
		qlt_evaluation e;

		for (int i = 0; i < 40; i++)
		{
			t[i] = (qlt_truth) {.image = i % 3 - 1,.class_id = i % 4 - 2,.area = odd(&seed),.crowd = i % 7 == 0};
			for (int k = 0; k < 4; k++)
				t[i].box[k] = odd(&seed);
		}
		for (int i = 0; i < 60; i++)
		{
			float		s = (float) odd(&seed);

			g[i] = (qlt_guess) {.image = i % 3 - 1,.class_id = i % 4 - 2,.score = isnan(s) ? 0 : s};
			for (int k = 0; k < 4; k++)
				g[i].box[k] = odd(&seed);
		}
		good &= qlt_evaluate(&mr_env_malloc, t, 40, g, 60, 1 + round % 30, &e, &st) == MR_OK;
		for (int i = 0; good && i < e.n_classes * QLT_AREAS; i++)
			for (int k = 0; k < QLT_IOUS; k++)
				good &= isnan(e.at[i].ap[k]) || (e.at[i].ap[k] >= 0 && e.at[i].ap[k] <= 1);
		mr_free(&mr_env_malloc, e.at);
		good &= qlt_match(&mr_env_malloc, t, 40, g, 60, 0.45, tm, gm, o, &st) == MR_OK;
		for (int i = 0; i < 40; i++)
			good &= tm[i] == QLT_NOBODY || gm[tm[i]] == i;
	}
	ok(good, "odd boxes: figures within 0 and 1, each pair from both sides");
}

int
main(void)
{
	qlt_guess	nan = {1, 0, {0, 0, 1, 1}, NAN};
	qlt_evaluation e;

	by_hand();
	pairs();
	odd_boxes();
	ok(qlt_evaluate(&mr_env_malloc, NULL, 0, &nan, 1, 100, &e, &st) == MR_INVALID, "a confidence that is no number: %s", st.message);
	ok(qlt_evaluate(&mr_env_malloc, NULL, 0, NULL, 0, 100, &e, &st) == MR_OK && e.n_classes == 0 && isnan(e.mean[0].ap[0]), "nothing of nothing");
	mr_free(&mr_env_malloc, e.at);
	return done_testing();
}
