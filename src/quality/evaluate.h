/*
 * evaluate.h
 *	  How good a detector is: average precision as COCO defines it, and which
 *	  detection goes with which object.
 *
 * Pure core: no PostgreSQL.  Boxes are corners in pixels, x1 < x2, y1 < y2; a
 * box without area overlaps nothing.  Inputs are not changed; results come
 * from env and are the caller's.
 *
 * Source: cocoapi, PythonAPI/pycocotools/cocoeval.py (COCOeval, iouType bbox);
 * figures are equal to its, ties of scores included (stable order by image).
 */
#ifndef MILLRACE_QUALITY_EVALUATE_H
#define MILLRACE_QUALITY_EVALUATE_H

#include <stdbool.h>
#include <stdint.h>

#include "core/env.h"
#include "core/status.h"

#define QLT_IOUS	10			/* 0.50, 0.55 … 0.95 */
#define QLT_AREAS	4			/* all, small < 32², medium, large > 96² */
#define QLT_RECALLS 101			/* 0.00, 0.01 … 1.00 */

extern const char *const qlt_area_names[QLT_AREAS];

/* An object as annotated. */
typedef struct qlt_truth
{
	int64_t		image;
	int32_t		class_id;
	double		box[4];			/* x1, y1, x2, y2 */
	double		area;			/* of the object; negative: its box's */
	bool		crowd;			/* what lies in it is neither right nor wrong */
} qlt_truth;

/* What a detector said. */
typedef struct qlt_guess
{
	int64_t		image;
	int32_t		class_id;
	double		box[4];
	float		score;
} qlt_guess;

/* Figures of one class and range of areas; NaN where there is no such object. */
typedef struct qlt_precision
{
	int32_t		class_id;
	int64_t		n_truth;		/* that count: no crowd, of that area */
	int64_t		n_guess;		/* that count, at IoU 0.50 */
	double		ap[QLT_IOUS];
	double		recall[QLT_IOUS];	/* with all detections */
	double		recall_1;		/* mean over the IoUs, with the best detection of each image */
	double		recall_10;		/* with ten */
	/* At IoU 0.50: */
	double		curve[QLT_RECALLS]; /* greatest precision at that recall or a greater one */
	double		curve_score[QLT_RECALLS];	/* confidence there; 0: never reached */
	double		f1;				/* the best there is, */
	double		f1_precision;
	double		f1_recall;
	double		threshold;		/* for detections of that confidence and above */
} qlt_precision;

typedef struct qlt_evaluation
{
	int			n_classes;		/* that truth or guesses name, ascending */
	qlt_precision *at;			/* [class * QLT_AREAS + area] */

	/*
	 * Means over the classes that have objects; counts are sums.  The f1 of all
	 * areas is the best of the classes' mean at one confidence for all (of 0,
	 * 0.001 … 1), precision and recall are means there; NaN for other areas.
	 */
	qlt_precision mean[QLT_AREAS];
} qlt_evaluation;

/*
 * max_guesses: so many of an image and class count, the most confident (COCO: 100).
 * Scores must not be NaN (MR_INVALID).  n_truth and n_guess up to 2^31 - 1.
 */
extern mr_code qlt_evaluate(const mr_env *env, const qlt_truth *truth, int64_t n_truth,
							const qlt_guess *guess, int64_t n_guess, int max_guesses,
							qlt_evaluation *out, mr_status *st);

#define QLT_NOBODY	(-1)
#define QLT_IN_CROWD (-2)		/* a guess, mostly within a crowd */

/*
 * Pairs of an object and a guess in one image, whatever their classes: the
 * greatest overlaps first, each object and guess once, overlaps above iou only
 * (Ultralytics' ConfusionMatrix).  truth_match[i] is a guess, guess_match[j] an
 * object, or one of the above; crowds match nobody.  overlap[j] is that of the pair, else of
 * the guess with the object it overlaps most.
 */
extern mr_code qlt_match(const mr_env *env, const qlt_truth *truth, int64_t n_truth,
						 const qlt_guess *guess, int64_t n_guess, double iou,
						 int32_t *truth_match, int32_t *guess_match, float *overlap, mr_status *st);

/* Intersection over union; over the guess's area alone where crowd. */
extern double qlt_overlap(const double *truth, const double *guess, bool crowd);

#endif							/* MILLRACE_QUALITY_EVALUATE_H */
