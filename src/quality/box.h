/*
 * box.h
 *	  Boxes in pixels: corners, x to the right, y down, exclusive of the last
 *	  pixel; and what a detector says of one.
 */
#ifndef MILLRACE_QUALITY_BOX_H
#define MILLRACE_QUALITY_BOX_H

#include <stdint.h>

typedef struct qlt_box
{
	float		x1,
				y1,
				x2,
				y2;
} qlt_box;

typedef struct qlt_detection
{
	qlt_box		box;
	float		score;
	int32_t		class_id;
	int32_t		index;			/* among the head's boxes: equal scores keep that order */
} qlt_detection;

/*
 * Intersection over union, in floats and in this order of operations, as
 * torchvision's CPU kernel (ops/cpu/nms_kernel.cpp): NaN for two boxes without
 * an area.
 */
static inline float
qlt_iou(const qlt_box *a, const qlt_box *b)
{
	float		x1 = a->x1 > b->x1 ? a->x1 : b->x1;
	float		y1 = a->y1 > b->y1 ? a->y1 : b->y1;
	float		x2 = a->x2 < b->x2 ? a->x2 : b->x2;
	float		y2 = a->y2 < b->y2 ? a->y2 : b->y2;
	float		w = x2 - x1 > 0 ? x2 - x1 : 0;
	float		h = y2 - y1 > 0 ? y2 - y1 : 0;
	float		both = w * h;

	return both / ((a->x2 - a->x1) * (a->y2 - a->y1) + (b->x2 - b->x1) * (b->y2 - b->y1) - both);
}

#endif							/* MILLRACE_QUALITY_BOX_H */
