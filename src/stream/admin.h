/*
 * admin.h
 *	  What the SQL functions of sources and outboxes share.
 */
#ifndef MILLRACE_STREAM_ADMIN_H
#define MILLRACE_STREAM_ADMIN_H

#include "foreign/foreign.h"
#include "utils/jsonb.h"

/* One fixed statement of ours, within SPI and as the extension's owner; its row count.  ERROR unless it ends as expected. */
extern uint64 kfk_run(const char *sql, int nargs, Oid *types, Datum *values, const char *nulls, int expected);

/* ERROR unless owner can own what its workers serve ("a source"): it can log in, may use server, is no superuser. */
extern void kfk_check_owner(Oid owner, ForeignServer *server, const char *what);

/* ERROR unless role may publish through the server, and the server has an outbox.  As the extension's owner, within SPI. */
extern void kfk_check_publisher(const char *server, Oid role);

/* Lock the source's row and check that the caller is a member of its owner.  As the extension's owner. */
extern void kfk_lock_source(const char *name, Oid caller);

/* ERROR unless a source can be read into the table, and its owner may insert into it. */
extern void kfk_check_target(Oid target);
extern void kfk_check_may_insert(Oid owner, Oid target);

/* Lock the rows of its partitions, in the order in which workers move them, before any statement that changes several: else both could wait for each other. */
extern void kfk_lock_offsets(const char *name);

/* No worker of the source that runs now can commit any more; waits for the batch in progress. */
extern void kfk_fence_source(const char *name);

/* Its dead letters no longer wait to be redriven.  Behind the fence, where no worker has locked them. */
extern void kfk_unmark_letters(const char *name);

/* ERROR unless owner may publish dead letters as options say, of a source that reads this server and topic. */
extern void kfk_check_letter_topic(Jsonb *options, const char *source_server, const char *source_topic, Oid owner);

#endif							/* MILLRACE_STREAM_ADMIN_H */
