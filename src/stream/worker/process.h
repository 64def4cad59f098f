/*
 * process.h
 *	  What workers of every kind do as processes.
 */
#ifndef MILLRACE_STREAM_PROCESS_H
#define MILLRACE_STREAM_PROCESS_H

/* Transactions.  False: somebody is dropping or altering the extension; kfk_begin() waits for that. */
extern bool kfk_try_begin(const char *activity);
extern void kfk_begin(const char *activity);
extern void kfk_commit(void);

/* Waiting, outside transactions: each answers the server and may end the process. */
extern void kfk_answer_server(void);
extern void kfk_wait_latch(int timeout_ms);
extern void kfk_nap(int timeout_ms);

extern char *kfk_plain(const char *text);

/* Writes a state to the worker's table; in a transaction. */
typedef void (*kfk_write_state) (const void *subject, const char *state, const char *sqlstate, const char *reason);

/* who: for the log, 'source "s", worker 0'; reason and sqlstate may be NULL.  Outside a transaction. */
extern void kfk_tell(const char *who, const char *appname, const void *subject, kfk_write_state write,
					 const char *state, const char *sqlstate, const char *reason);

#endif							/* MILLRACE_STREAM_PROCESS_H */
