/*
 * nms.c
 *	  Non-maximum suppression.
 *
 * Greedy, as torchvision.ops.batched_nms() does it: in the order of the scores
 * each box that is still there is kept and removes those behind it that overlap
 * it by more than the threshold.  It ends with the last box that is wanted, so
 * the work is at most max * n comparisons.  Boxes of different classes are
 * compared never, instead of moved apart by an offset that costs bits.
 * Soft: Bodla et al., Soft-NMS, 2017 (the Gaussian penalty).
 */
#include "quality/nms.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define PAIRS_A_LOOK (1 << 17)	/* comparisons between interrupts: about 1 ms */

bool
qlt_nms_by_name(const char *name, qlt_nms_kind *kind)
{
	static const char *const names[] = {"class", "agnostic", "soft", "none"};

	for (int i = 0; i < (int) (sizeof(names) / sizeof(names[0])); i++)
		if (strcmp(name, names[i]) == 0)
		{
			*kind = (qlt_nms_kind) i;
			return true;
		}
	return false;
}

static int
by_score(const void *left, const void *right)
{
	const qlt_detection *a = left,
			   *b = right;

	if (a->score != b->score)
		return a->score > b->score ? -1 : 1;
	return a->index < b->index ? -1 : a->index > b->index;
}

void
qlt_sort(qlt_detection *d, int n)
{
	qsort(d, (size_t) n, sizeof(*d), by_score);
}

/* Remove what d[kept] suppresses among those behind it; returns how many are left. */
static int
suppress(qlt_detection *d, int kept, int n, bool agnostic, double iou)
{
	const qlt_detection by = d[kept];
	int			left = kept + 1;

	for (int i = kept + 1; i < n; i++)
		if ((!agnostic && d[i].class_id != by.class_id) || !(qlt_iou(&by.box, &d[i].box) > iou))
			d[left++] = d[i];
	return left;
}

/* Let the scores behind d[kept] decay; bring the surest forward. */
static int
decay(qlt_detection *d, int kept, int n, float confidence)
{
	const qlt_detection by = d[kept];
	int			left = kept + 1;

	for (int i = kept + 1; i < n; i++)
	{
		qlt_detection one = d[i];
		float		overlap = one.class_id == by.class_id ? qlt_iou(&by.box, &one.box) : 0;

		if (overlap > 0)
			one.score *= expf(-overlap * overlap / QLT_SOFT_SIGMA);
		if (!(one.score > confidence))
			continue;
		d[left] = one;
		if (by_score(&d[left], &d[kept + 1]) < 0)
		{
			d[left] = d[kept + 1];
			d[kept + 1] = one;
		}
		left++;
	}
	return left;
}

mr_code
qlt_nms(const mr_env *env, qlt_detection *d, int *n, qlt_nms_kind kind, double iou, float confidence,
		int max, mr_status *st)
{
	int			left = *n;
	int64_t		pairs = 0;
	int			kept;

	qlt_sort(d, left);
	for (kept = 0; kept < left && kept < max && kind != qlt_nms_none; kept++)
	{
		pairs += left - kept;
		if (pairs > PAIRS_A_LOOK)
		{
			pairs = 0;
			if (mr_interrupted(env))
				return mr_fail(st, MR_CANCELED, "non-maximum suppression canceled");
		}
		left = kind == qlt_nms_soft ? decay(d, kept, left, confidence) :
			suppress(d, kept, left, kind == qlt_nms_agnostic, iou);
	}
	*n = left < max ? left : max;
	return MR_OK;
}
