/*
 * head.h
 *	  Heads of detectors: which of the usual shapes an output has, and the
 *	  boxes in it.
 */
#ifndef MILLRACE_QUALITY_HEAD_H
#define MILLRACE_QUALITY_HEAD_H

#include "core/env.h"
#include "core/status.h"
#include "image/image.h"
#include "quality/box.h"

#include <stdbool.h>

/* Boxes kept for non-maximum suppression, as Ultralytics' max_nms. */
#define QLT_MAX_CANDIDATES 30000

typedef enum qlt_layout
{
	qlt_columns,				/* 1 x numbers x boxes: YOLOv8, v9, v11 */
	qlt_rows,					/* 1 x boxes x numbers: YOLOv5, v6, v7 */
	qlt_final					/* boxes x 6 or 7: suppression was the network's */
} qlt_layout;

typedef struct qlt_head
{
	qlt_layout	layout;
	int			n_boxes;
	int			n_numbers;		/* of a box */
	bool		objectness;		/* a fifth number that the classes' are multiplied by */
	int			n_classes;		/* 0: not known (qlt_final) */
} qlt_head;

/*
 * Recognise an output of the given dimensions (the first may be -1: a batch; the
 * most, where they depend on data), of a network that takes images of width x
 * height and has n_labels labels (0: not known).  MR_INVALID with
 * the reason if it is no head of a detector.
 */
extern mr_code qlt_find_head(const int64_t *dims, int rank, int width, int height, int n_labels,
							 qlt_head *out, mr_status *st);

/*
 * The surest class of every box, where its score is more than confidence; boxes
 * are in the input's pixels.  *out comes from env: at most
 * QLT_MAX_CANDIDATES, the surest when there are more, in no order.  What is
 * not finite is left out.  MR_NOMEM, MR_CANCELED.
 */
extern mr_code qlt_read_head(const mr_env *env, const qlt_head *head, const float *numbers, float confidence,
							 qlt_detection **out, int *n, mr_status *st);

/* From pixels of a letterbox to those of the image in it, cut at its edges. */
extern void qlt_to_image(const img_letterbox *box, qlt_detection *d, int n);

#endif							/* MILLRACE_QUALITY_HEAD_H */
