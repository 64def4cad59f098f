/*
 * pipelines.h
 *	  What the files of this room share.
 */
#ifndef MILLRACE_PIPELINES_H
#define MILLRACE_PIPELINES_H

#include "datatype/timestamp.h"
#include "executor/spi.h"
#include "utils/tuplestore.h"

/* Schema that the extension's functions were created in.  Needs SPI. */
extern char *pip_function_schema(void);

extern bool pip_is_owner_of_schema(Oid namespace, Oid role);

/*
 * Acting as the owner of a pipeline: the user id of its schema's owner, pinned
 * search_path, SPI connected.  The abort of the (sub)transaction undoes all of
 * it, so there is no PG_TRY.
 */
typedef struct pip_scope
{
	Oid			user;			/* whom to return to */
	int			sec_context;
	int			guc_nest;
	Oid			namespace;
	const char *name;			/* the schema's name */
	const char *schema;			/* the same as a quoted identifier */
	const char *schema_literal; /* quoted literal */
} pip_scope;

extern void pip_enter(pip_scope *scope, Oid namespace, Oid expected_owner);
extern void pip_leave(pip_scope *scope);

/*
 * Rows on their way into a table: a tuplestore that SQL sees under a name
 * (an ephemeral named relation), so that thousands of rows are one INSERT.
 */
typedef struct pip_rows
{
	const char *name;
	TupleDesc	desc;
	Tuplestorestate *store;
	int64		n;
} pip_rows;

/* Columns as "name type, …" in SQL; made in the current memory context. */
extern void pip_rows_begin(pip_rows *rows, const char *name, int ncolumns,
						   const char *const *columns, const Oid *types);
extern void pip_rows_add(pip_rows *rows, Datum *values, bool *nulls);
extern void pip_rows_end(pip_rows *rows);

/*
 * A statement of a pipeline, planned once per backend and pipeline.  text is a
 * static string with @S@ for the schema and @F@ for the functions' schema; its
 * address is part of the cache's key.
 */
extern SPIPlanPtr pip_plan(const pip_scope *scope, const char *text, int nargs, const Oid *types);

/* Run such a statement; expected is the SPI_OK_… code.  Returns SPI_processed. */
extern uint64 pip_run(const pip_scope *scope, const char *text, int nargs, const Oid *types,
					  Datum *values, const char *nulls, int expected);

/* The message a row came from, as columns 'source_topic, source_partition, source_offset'. */
typedef struct pip_source
{
	Datum		topic;
	bool		topic_null;
	int32		partition;
	bool		partition_null;
	int64		offset;
	bool		offset_null;
} pip_source;

extern pip_source pip_source_of(HeapTuple tuple, TupleDesc desc, int first_column);

/* Per partition the first and last offset of a batch, as JSON text; NULL if no row had any. */
#define PIP_MAX_PARTITIONS 1024
typedef struct pip_offsets
{
	int			n;
	struct
	{
		int32		partition;
		int64		first;
		int64		last;
	}			range[PIP_MAX_PARTITIONS];
} pip_offsets;

extern void pip_offsets_add(pip_offsets *offsets, const pip_source *source);
extern char *pip_offsets_json(const pip_offsets *offsets);

/* Insert a row into runs; returns its run_id.  model is name:version, profile may be NULL. */
extern int64 pip_new_run(const pip_scope *scope, const char *stage, const char *profile, const char *model,
						 const char *topic, const pip_offsets *offsets, int rows, TimestampTz started);

/*
 * Classify the rows of a cursor over (image_id, descriptors, source_topic,
 * source_partition, source_offset) with every enabled profile, or with one.
 * Returns the number of predictions written.
 */
extern int64 pip_classify(const pip_scope *scope, Portal rows, const char *only_profile);

/*
 * Extract the rows of a cursor over (image_id, content, sha256, source, source_topic,
 * source_partition, source_offset, source_time, received_at).  replace: rows whose new
 * content fails lose what the old one gave.  Returns the number of descriptors.
 */
extern int64 pip_extract(const pip_scope *scope, Portal rows, bool replace);

#endif							/* MILLRACE_PIPELINES_H */
