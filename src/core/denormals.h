/*
 * denormals.h
 *	  Flush denormals to zero for the time of a run, both as results and as
 *	  operands: some CPUs take 100 times as long for them.  PostgreSQL expects the
 *	  mode unchanged afterwards: restore it on every way out.
 */
#ifndef MILLRACE_DENORMALS_H
#define MILLRACE_DENORMALS_H

#if defined(__SSE__)
#include <xmmintrin.h>
#endif

static inline unsigned
mr_denormals_off(void)
{
#if defined(__SSE__)
	unsigned	old = _mm_getcsr();

	_mm_setcsr(old | 0x8040);
	return old;
#else
	return 0;
#endif
}

static inline void
mr_denormals_restore(unsigned old)
{
#if defined(__SSE__)
	_mm_setcsr(old);
#else
	(void) old;
#endif
}

#endif							/* MILLRACE_DENORMALS_H */
