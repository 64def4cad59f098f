/*
 * scalar.h
 *	  The single values a message is made of: numbers and timestamps.
 *
 * Pure: bytes in, value or false out; nothing is allocated or kept.
 */
#ifndef MILLRACE_STREAM_SCALAR_H
#define MILLRACE_STREAM_SCALAR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A JSON number, taken apart but not yet rounded: mantissa * 10^exponent. */
typedef struct kfk_number
{
	const char *start;
	size_t		len;
	uint64_t	mantissa;
	int			exponent;
	bool		negative;
	bool		whole;			/* neither point nor exponent */
	bool		exact;			/* mantissa holds every digit */
} kfk_number;

typedef enum kfk_rounding
{
	KFK_ROUNDED,
	KFK_OUT_OF_RANGE,
	KFK_NOT_WHOLE				/* a fraction where an integer is wanted */
} kfk_rounding;

/* Scan the number at p; its end, or NULL if it is none (by RFC 8259). */
extern const char *kfk_scan_number(const char *p, const char *end, kfk_number *number);

/* Correctly rounded (to nearest, ties to even). */
extern kfk_rounding kfk_to_float4(const kfk_number *number, float *out);
extern kfk_rounding kfk_to_float8(const kfk_number *number, double *out);

/* 1.0 and 1e3 count as whole. */
extern kfk_rounding kfk_to_int8(const kfk_number *number, int64_t *out);

/*
 * ISO 8601 with a time zone ("2026-11-21T05:58:00.25Z", "... 07:58+02:00") to
 * microseconds since 2000-01-01 UTC.  False for anything else, which may still
 * be a timestamp that the type's input function understands.
 */
extern bool kfk_timestamp(const char *text, size_t len, int64_t *out);

#endif							/* MILLRACE_STREAM_SCALAR_H */
