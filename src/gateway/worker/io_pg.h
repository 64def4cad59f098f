/*
 * io_pg.h
 *	  What the glue of the I/O worker shares.
 */
#ifndef MILLRACE_GATEWAY_IO_PG_H
#define MILLRACE_GATEWAY_IO_PG_H

#include "gateway/gateway.h"

/* It cannot begin, for now. */
#define gwi_not_now(...) ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE), errmsg(__VA_ARGS__)))

#include "gateway/worker/io.h"

/* io_book_pg.c */
extern bool gwi_book_read(void);	/* false: not now; the current one stays.  ERROR likewise */
extern void gwi_books_forget(void); /* old ones that no request refers to any more */
extern const gwi_route *gwi_book_route(const gwi_book *book, int64 id);

/* io_listen_pg.c */
extern void gwi_listen_open(void);	/* ERROR where it cannot: all of them, or none */
extern char *gwi_read_file(const char *setting, bool secret);	/* palloc'd; the same */
extern int	gwi_listen_fd(void);	/* an epoll of all of them, and of libmicrohttpd's */
extern void gwi_listen_take(void);	/* new connections */

/* io_request_pg.c: function: that is called, the route's own or its poll function */
extern Size gwi_request_size(const gwi_request *r, const char *function);
extern void gwi_request_write(const gwi_request *r, const char *function, gw_request *q, Size size);

/* io_reply_pg.c */
extern void gwi_reply_take(gwi_request *r, const gw_response *p);
extern void gwi_refuse(gwi_request *r, int status, const char *message);	/* answer it, and let its connection go on */
extern void gwi_fail(gwi_request *r, int status, const char *message);	/* a call that came to nothing: a stream goes on, anything else is answered */
extern void gwi_send_later(gwi_request *r); /* what was to be sent when its time is over */

/* io_box_pg.c */
extern void gwi_boxes_open(void);	/* ERROR where there is no place */
extern void gwi_boxes_take(void);	/* what executors answered */
extern void gwi_boxes_give(void);	/* what waits, to idle ones */
extern void gwi_boxes_failed(void); /* after an ERROR: the request that was being given or taken is answered */
extern void gwi_boxes_look(int64 now);	/* times that are over, clients that went away */
extern int64 gwi_boxes_due(void);	/* when something is, PG_INT64_MAX: nothing */

#endif							/* MILLRACE_GATEWAY_IO_PG_H */
