/*
 * cache_pg.h
 *	  Answers of detectors, kept for all sessions.
 */
#ifndef MILLRACE_QUALITY_CACHE_PG_H
#define MILLRACE_QUALITY_CACHE_PG_H

#include "quality/detect_pg.h"

#define QLT_KEY_SIZE 32			/* a SHA-256 of all that decides an answer */

/* Is there a cache, by this session's settings? */
extern bool qlt_cache_wanted(void);

/* The answer to a key, palloc'd; false: it is not there. */
extern bool qlt_cache_find(const uint8 key[QLT_KEY_SIZE], qlt_answer *out);

/* Keep one; what was used longest ago goes.  Never fails. */
extern void qlt_cache_keep(const uint8 key[QLT_KEY_SIZE], const qlt_answer *answer);

extern void qlt_cache_init(void);

#endif							/* MILLRACE_QUALITY_CACHE_PG_H */
