/*
 * quantize_range.h
 *	  The values that a tensor takes during calibration, and the range worth 8 bits.
 */
#ifndef MILLRACE_NN_QUANTIZE_RANGE_H
#define MILLRACE_NN_QUANTIZE_RANGE_H

#include "nn/quantize.h"

#define NN_RANGE_HALF 2048		/* bins on each side of zero */

/* A histogram over [-reach, reach) that widens by joining pairs of bins, so one
 * pass is enough and its size does not grow.  Zeros are not counted: every
 * quantisation holds them exactly. */
typedef struct nn_range
{
	float		lo,
				hi;				/* of all values, zero included */
	double		reach;			/* power of two, 0: nothing seen */
	int64_t		seen;			/* values, zeros included */
	bool		not_finite;		/* NaN or infinity were among them */
	uint64_t	bins[2 * NN_RANGE_HALF];
} nn_range;

extern void nn_range_add(nn_range *r, const float *x, size_t n);

/* The limits by a method; both 0 if only zeros were seen. */
extern void nn_range_limits(const nn_range *r, nn_quant_method method, double percentile, float *lo, float *hi);

/* Scale and zero point of uint8 values that cover [lo, hi] and zero. */
extern void nn_range_scale(float lo, float hi, float *scale, int *zero);

#endif							/* MILLRACE_NN_QUANTIZE_RANGE_H */
