/*
 * series_pg.h
 *	  Histograms and counters in shared memory, for metrics: how long stages of
 *	  pipelines, HTTP requests and models take, and how often something happens.
 *
 * A series is named by (database, family, up to three labels); a family says what its
 * labels are called and where its buckets end.  Series begin anew with the
 * server.  There is room for millrace.max_metric_series of them when the library
 * is preloaded, else for a few; one not touched for an hour makes room, and what finds none is
 * counted as lost.  Labels longer than their room are cut.
 *
 * Whoever makes up labels must keep their number small: a route's pattern is one,
 * a request's path never.
 *
 * This file is compiled into both libraries; see shared_pg.h.
 */
#ifndef MILLRACE_SERIES_PG_H
#define MILLRACE_SERIES_PG_H

#include "datatype/timestamp.h"

#define MR_BUCKETS 16			/* the last one has no end */
#define MR_LABELS 3
#define MR_LABEL_SIZE 132		/* with the NUL; a model's longest name fits */

typedef enum mr_family
{
	MR_STAGE_SECONDS,			/* pipeline, stage */
	MR_HTTP_SECONDS,			/* route, method, class of the status ("2xx") */
	MR_MODEL_SECONDS,			/* model, version */
	MR_TASK_SECONDS,			/* kind, lane, class of the error or "ok": attempts */
	MR_TASK_WAIT_SECONDS,		/* kind, lane: before the first attempt */
	MR_PROVIDER_SECONDS,		/* provider, class of the error or "ok" */
	/* counters */
	MR_TASKS_ENDED,				/* kind, state */
	MR_PROVIDER_TOKENS,			/* provider, "in" or "out" */
	MR_PROVIDER_COST,			/* provider; in millionths */
	MR_GATEWAY_EVENTS,			/* event */
	MR_N_FAMILIES
} mr_family;

typedef struct mr_family_info
{
	const char *name;			/* of the metric */
	const char *help;
	const char *label[MR_LABELS];	/* NULL: has no more */
	const double *bounds;		/* upper ends of MR_BUCKETS - 1 buckets in seconds; NULL: a counter */
	double		unit;			/* of a counter; 0: 1 */
} mr_family_info;

extern const mr_family_info mr_families[MR_N_FAMILIES];

typedef struct mr_series_reading
{
	mr_family	family;
	char		label[MR_LABELS][MR_LABEL_SIZE];
	uint64		bucket[MR_BUCKETS]; /* not cumulated; of a counter the first is all */
	double		seconds;		/* sum of what was observed */
} mr_series_reading;

/* From core_init(): reserves memory when preloading. */
extern void mr_series_init(void);

/* Bucket of an observation. */
extern int	mr_bucket(mr_family family, double seconds);

/* One observation, counted at once; labels the family lacks are NULL.  A NaN or what is below 0 counts as 0. */
extern void mr_observe(mr_family family, const char *label1, const char *label2, const char *label3, double seconds);

/* The same `times` times when the current transaction commits, and not at all if it, or the subtransaction, does not. */
extern void mr_observe_at_commit(mr_family family, const char *label1, const char *label2, const char *label3,
								 double seconds, uint64 times);

/* Many, already sorted into MR_BUCKETS buckets.  Does not throw once this backend has called mr_series_attach(). */
extern void mr_observe_many(mr_family family, const char *label1, const char *label2, const char *label3,
							const uint64 *bucket, double seconds);
extern void mr_series_attach(void);

/* Counters. */
extern void mr_tally(mr_family family, const char *label1, const char *label2, const char *label3, uint64 n);
extern void mr_tally_at_commit(mr_family family, const char *label1, const char *label2, const char *label3, uint64 n);

/* All series of this database, sorted by family and labels; palloc'd. */
extern int	mr_series_read(mr_series_reading **out);

/* Series there is room for, in use (all databases), and observations lost for want of room. */
extern void mr_series_room(int *most, int *used, uint64 *lost);

#endif							/* MILLRACE_SERIES_PG_H */
