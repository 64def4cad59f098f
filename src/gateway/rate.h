/*
 * rate.h
 *	  So many requests a minute: a bucket for each pair of whom and what, of fixed number.  Pure.
 *
 * A bucket holds a minute's requests, begins full, and fills evenly.  Where there are more pairs than places,
 * one that is fullest is forgotten, which can only let more through.
 */
#ifndef MILLRACE_GATEWAY_RATE_H
#define MILLRACE_GATEWAY_RATE_H

#include <stdbool.h>
#include <stdint.h>

#define GW_RATE_PLACES 8192
#define GW_RATE_WAYS 8

typedef struct gw_rate_place
{
	uint64_t	key;			/* 0: unused */
	int64_t		since_us;		/* when `left` was right */
	double		left;			/* requests */
	double		most;
} gw_rate_place;

typedef struct gw_rate
{
	gw_rate_place place[GW_RATE_PLACES];
} gw_rate;

/* May one more of whom and what come at now_us (monotonic)?  If not, *wait_s tells when. */
extern bool gw_rate_take(gw_rate *rate, uint64_t whom, uint64_t what, int per_minute, int64_t now_us, int *wait_s);

#endif							/* MILLRACE_GATEWAY_RATE_H */
