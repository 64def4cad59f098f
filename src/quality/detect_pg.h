/*
 * detect_pg.h
 *	  Detection, within the room's glue: a question, its answer, and the cache of
 *	  answers.
 */
#ifndef MILLRACE_QUALITY_DETECT_PG_H
#define MILLRACE_QUALITY_DETECT_PG_H

#include "quality/box.h"
#include "quality/nms.h"
#include "registry/registry.h"

/* What is asked beside image and model. */
typedef struct qlt_question
{
	float		confidence;
	double		iou;
	qlt_nms_kind nms;
	int			max_detections;
} qlt_question;

typedef struct qlt_answer
{
	int			width,			/* of the upright image */
				height;
	int			n;
	qlt_detection *d;			/* surest first; palloc'd */
} qlt_answer;

/*
 * What a detector sees in an encoded image.  A bad image returns its failure in st;
 * whatever is wrong with the model or the system raises.  Cancel raises.
 */
extern mr_code qlt_detect(const reg_model *model, const uint8 *image, size_t size, const qlt_question *question,
						  qlt_answer *out, mr_status *st);

#endif							/* MILLRACE_QUALITY_DETECT_PG_H */
