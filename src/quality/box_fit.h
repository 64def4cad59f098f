/*
 * box_fit.h
 *	  Whether boxes lie where the objects of their image are.
 *
 * Pure core.  A box that fits has other colours along the inside of its sides
 * than along the outside.  That is compared with the same boxes moved as
 * augmentation moves images: mirrored, turned, shifted, all of them alike.
 * What is a poor fit depends on the data set: the caller compares images.
 */
#ifndef MILLRACE_QUALITY_BOX_FIT_H
#define MILLRACE_QUALITY_BOX_FIT_H

#include "image/image.h"
#include "quality/box.h"

typedef enum qlt_move
{
	QLT_STAY, QLT_MIRROR, QLT_FLIP, QLT_TURN_180, QLT_TURN_RIGHT, QLT_TURN_LEFT, QLT_SHIFT,
	QLT_MOVES
} qlt_move;

/* "" (QLT_STAY), "mirrored", ... */
extern const char *const qlt_move_names[QLT_MOVES];

typedef struct qlt_box_fit
{
	int			boxes;			/* that were looked at; 0: the rest is 0 */
	float		fit;			/* mean colour difference across the sides as they are, 0..255 */
	float		best;			/* the most that any move gives, fit included */
	qlt_move	move;
	float		dx,				/* of QLT_SHIFT: pixels of src by which the boxes would have to go */
				dy;
} qlt_box_fit;

/*
 * boxes: of the upright image src, n of them; those that are no numbers, too
 * small or as large as the image are passed over, and of many every k-th is
 * looked at.  Memory: 3.5 MB at most.  Errors: MR_NOMEM, MR_CANCELED.
 */
extern mr_code qlt_fit_boxes(const mr_env *env, const img_pixels *src, const qlt_box *boxes, int n, qlt_box_fit *out, mr_status *st);

#endif							/* MILLRACE_QUALITY_BOX_FIT_H */
