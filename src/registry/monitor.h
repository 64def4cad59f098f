/*
 * monitor.h
 *	  Monitors: what create_monitor() stores and run_monitor() works with.
 *
 * A monitor's queries run as its owner, read-only, in a security-restricted
 * operation, under the search_path it was created with: mon_become_owner().
 * The extension's tables are written as their owner: write.h.
 */
#ifndef MILLRACE_REGISTRY_MONITOR_H
#define MILLRACE_REGISTRY_MONITOR_H

#include "datatype/timestamp.h"
#include "executor/spi.h"
#include "learn/sketch.h"
#include "nodes/pg_list.h"
#include "registry/write.h"
#include "utils/jsonb.h"

#define MON_MAX_FEATURES	5000

/* A column of the query, as it was at creation. */
typedef enum mon_kind
{
	MON_NUMBER,
	MON_CATEGORY,
	MON_ARRAY					/* of numbers: one feature an element */
} mon_kind;

typedef struct mon_column
{
	char	   *name;
	mon_kind	kind;
	int			width;			/* features: 1, or elements of the array */
	bool		prediction;
} mon_column;

/* What is sketched: a column, or an element of one. */
typedef struct mon_feature
{
	char	   *name;
	lrn_sketch_kind kind;
	bool		prediction;
} mon_feature;

typedef enum mon_reference
{
	MON_WINDOWS,				/* the windows before */
	MON_PERIOD,
	MON_QUERY,					/* monitors.reference */
	MON_MODEL					/* the rows a version was trained on: a query too */
} mon_reference;

typedef struct mon_options
{
	char	   *time;
	Interval   *window;
	Interval   *lateness;
	char	   *timezone;
	bool		has_start;
	TimestampTz start;
	mon_reference reference;
	TimestampTz from,
				to;
	char	   *reference_query;	/* or the model */
	int			reference_windows;
	bool		restart;		/* windows before the last alarm do not count */
	List	   *columns;		/* of char *; NIL: all that can be watched */
	List	   *prediction;
	char	   *key;
	char	   *label;
	char	   *label_query;
	Interval   *label_delay;
	int64		min_rows;
	int			bins;
	double		alpha;
	lrn_correction correction;
	bool		scheduled;		/* run_due() runs it; else its user does */
	struct
	{
		double		psi,
					ks,
					shift,
					missing,
					fresh,
					performance;
	}			least;			/* effects below do not raise an alarm */
} mon_options;

typedef struct monitor
{
	char	   *name;
	Oid			owner;
	char	   *query;
	char	   *reference;		/* query of the reference, or NULL */
	char	   *search_path;
	mon_options options;
	mon_column *column;
	int			n_columns;
	mon_feature *feature;
	int			n_features;
	bool		started;		/* first_window is known */
	TimestampTz first_window;
	int			windows;		/* done */
} monitor;

/* ---- monitor_options_pg.c ---- */
extern void mon_parse_options(Jsonb *json, mon_options *o);
extern Jsonb *mon_columns_json(const monitor *m);
/* Fills columns and features. */
extern void mon_parse_columns(monitor *m, Jsonb *json);
extern void mon_unroll(monitor *m);
/* Begin of window n. */
extern TimestampTz mon_window(const monitor *m, int n);
/* The last begin of a window that is not after t, counted from a Monday. */
extern TimestampTz mon_align(const mon_options *o, TimestampTz t);
/* t + interval in the monitor's time zone. */
extern TimestampTz mon_later(const mon_options *o, TimestampTz t, const Interval *by);

/* ---- monitor_read_pg.c ---- */

typedef struct mon_user
{
	Oid			user;
	int			context;
	int			guc_level;
	ErrorContextCallback error;
} mon_user;

/* Between these two SPI is connected, and errors say whose monitor's they are. */
extern void mon_become_owner(mon_user *save, const monitor *m);
extern void mon_become_caller(const mon_user *save);

/* A query or a table's name as what may stand in parentheses in FROM. */
extern char *mon_from_item(const char *query);

/* Run a query whose rows are few; SPI_tuptable has them.  Within mon_become_owner(). */
extern void mon_select(const char *sql, int nargs, const Oid *types, const Datum *values, const char *nulls);

/*
 * Sketch the rows of n windows from bound[0] up to bound[n] in one scan of the
 * query; bound NULL: all rows of from, one window.  sketch: n x n_features,
 * filled; memory from env.  Within mon_become_owner().
 */
extern void mon_sketch_rows(const monitor *m, const char *from, const TimestampTz *bound, int n,
							const mr_env *env, lrn_sketch **sketch);

/* Which columns of the query are watched; within mon_become_owner(). */
extern void mon_find_columns(monitor *m);

/* Type of the time column in the query: timestamptz, timestamp or date. */
extern Oid	mon_time_type(const monitor *m);
/* A bound as a parameter to be compared with it. */
extern Datum mon_bound(const monitor *m, Oid time_type, TimestampTz t, Oid *type);

/* ---- monitor_compare_pg.c: within reg_write_begin() ---- */
extern void mon_store_sketches(const monitor *m, int window, lrn_sketch *const *sketch);
extern void mon_compare(const monitor *m, int window, lrn_sketch *const *current);

/* ---- monitor_labels_pg.c ---- */
extern void mon_measure(const monitor *m, TimestampTz until);

/* ---- monitor_pg.c ---- */
/* What run_monitor() does; for the scheduler.  Returns the windows done. */
extern int	mon_run(const char *name, TimestampTz until);

#endif							/* MILLRACE_REGISTRY_MONITOR_H */
