/*
 * process_pg.h
 *	  What workers of every kind do as processes.
 */
#ifndef MILLRACE_PROCESS_PG_H
#define MILLRACE_PROCESS_PG_H

/* Transactions.  False: somebody is dropping or altering the extension; mr_begin() waits for that. */
extern bool mr_try_begin(const char *activity);
extern void mr_begin(const char *activity);
extern void mr_commit(void);

/* Waiting, outside transactions: each answers the server and may end the process. */
extern void mr_answer_server(void);
extern void mr_wait_latch(int timeout_ms);
extern void mr_nap(int timeout_ms);

extern char *mr_plain(const char *text);

extern int64 mr_resident_bytes(void);	/* of this process in memory that are not shared with others; -1: not known */

/* In a worker's PG_CATCH: the error, logged and over, and no transaction open any more. */
extern ErrorData *mr_recover(MemoryContext cxt);
extern int	mr_pause_ms(int failures);	/* before it is tried again, after so many in a row */

/* Writes a state to the worker's table; in a transaction. */
typedef void (*mr_write_state) (const void *subject, const char *state, const char *sqlstate, const char *reason);

/* who: for the log, 'source "s", worker 0'; reason and sqlstate may be NULL.  Outside a transaction. */
extern void mr_tell(const char *who, const char *appname, const void *subject, mr_write_state write,
					const char *state, const char *sqlstate, const char *reason);

/* Is an error the fault of data, that would come again with them, or of the surroundings? */
extern bool mr_is_data_error(int sqlstate);

#endif							/* MILLRACE_PROCESS_PG_H */
