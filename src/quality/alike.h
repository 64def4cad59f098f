/*
 * alike.h
 *	  How much two images look alike, whichever way one is flipped or turned, by what image/facts.h measured of them.
 */
#ifndef MILLRACE_QUALITY_ALIKE_H
#define MILLRACE_QUALITY_ALIKE_H

#include "image/facts.h"

typedef struct qlt_alike
{
	int			turn;			/* of img_hash(): what was done to b */
	int			distance;		/* bits in which the hashes differ */
	float		cosine;			/* of the thumbnails: their correlation */
} qlt_alike;

/* The turn at which they are most alike: a bit of distance counts as much as 0.005 of correlation.  Of b with a it
 * is the other way round, with the same numbers. */
extern qlt_alike qlt_look_alike(const uint64_t a_hash[8], const float a[IMG_THUMB_LEN], const uint64_t b_hash[8], const float b[IMG_THUMB_LEN]);

#endif							/* MILLRACE_QUALITY_ALIKE_H */
