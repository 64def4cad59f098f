/*
 * nms.h
 *	  Non-maximum suppression: of boxes that overlap, the surest.
 */
#ifndef MILLRACE_QUALITY_NMS_H
#define MILLRACE_QUALITY_NMS_H

#include "core/env.h"
#include "core/status.h"
#include "quality/box.h"

#include <stdbool.h>

typedef enum qlt_nms_kind
{
	qlt_nms_class,				/* within a class */
	qlt_nms_agnostic,			/* whatever the class */
	qlt_nms_soft,				/* scores decay instead (Gaussian), within a class */
	qlt_nms_none				/* only sorted and cut */
} qlt_nms_kind;

/* Of the Gaussian; the paper's value. */
#define QLT_SOFT_SIGMA 0.5f

/* "class", "agnostic", "soft", "none"; false if there is no such name. */
extern bool qlt_nms_by_name(const char *name, qlt_nms_kind *kind);

/* By score, falling; equal ones by index. */
extern void qlt_sort(qlt_detection *d, int n);

/*
 * Keep at most max of *n detections, surest first, in place.  A box goes when
 * its IoU with a kept one is more than iou (an equal one stays, NaN too).  Soft:
 * its score is multiplied by exp(-IoU^2 / sigma) for each kept one, and it goes
 * when that is not more than confidence.  Fails with MR_CANCELED only.
 */
extern mr_code qlt_nms(const mr_env *env, qlt_detection *d, int *n, qlt_nms_kind kind, double iou,
					   float confidence, int max, mr_status *st);

#endif							/* MILLRACE_QUALITY_NMS_H */
