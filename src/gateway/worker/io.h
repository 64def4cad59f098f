/*
 * io.h
 *	  What the files of the I/O worker share.
 *
 *	io_main_pg.c	life of the process: sockets, turns, the end
 *	io_book_pg.c	routes and tokens, read into memory
 *	io_box_pg.c		boxes of executors: who gets which request, and gives it back
 *	io_request_pg.c	a request written into shared memory
 *	io_reply_pg.c	what becomes of it by its response
 *	io_listen_pg.c	listening sockets, certificate
 *	io_count_pg.c	what is counted, told
 *	io_http.c		libmicrohttpd: connections and its callbacks
 *	io_head.c		a request's head judged: route, token, limits
 *	io_body.c		its body, as it comes and when it is there
 *	io_answer.c		responses
 *	io_stream.c		streams of events
 *	io_count.c		what is counted
 *	io_time.c		deadlines of connections, clients that went away
 *
 * Only *_pg.c may raise an ERROR, and no callback of libmicrohttpd calls them: the other files know no
 * server, and allocate by malloc.  All of it is one thread.
 *
 * A request is made when its first line came, and freed when libmicrohttpd says that it is over, which it
 * never does while the connection is suspended.  From gwi_body_end() on, until it is answered, it is in one list
 * (waiting, pending), or with an executor, and its connection suspended.
 */
#ifndef MILLRACE_GATEWAY_IO_H
#define MILLRACE_GATEWAY_IO_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include <microhttpd.h>

#include "gateway/form.h"
#include "gateway/listen.h"
#include "gateway/request.h"
#include "gateway/route.h"

#define GWI_MEMORY (256 * 1024 * 1024)	/* bytes of bodies and answers of all requests; more are refused */
#define GWI_MAX_BOXES 32		/* GW_MAX_EXECUTORS */
#define GWI_SLOWEST 16384		/* bytes a second that a client sends and reads at least */

/* ---- settings: those the worker was started with */

typedef struct gwi_settings
{
	int			connections;
	int			per_address;	/* 0: any number */
	int			queue;
	int64_t		max_body;
	int64_t		max_response;
	int			timeout_ms;
	int			header_timeout_ms;
	int			idle_timeout_ms;
	int			streams;
	char		origin[256];	/* "": none */
	bool		tls;
	int			listens;
	gw_listen	listen[GW_MAX_LISTEN];
} gwi_settings;

extern gwi_settings gwi_set;

/* ---- the book: routes and tokens, as they were when it was read; it lives as long as a request refers to it */

#define GWI_MEDIA(m) (1u << (m))

/* What is known of a route from book to book.  (io_book_pg.c) */
typedef struct gwi_route_state
{
	int64_t		id;
	int			running;		/* requests of it with executors */
	struct gwi_route_state *next;
} gwi_route_state;

typedef struct gwi_route
{
	int64_t		id;
	const char *label;			/* its pattern with the prefix, for metrics */
	const char *function;
	const char *poll_function;	/* NULL: none */
	const char *scope;
	unsigned	media;			/* bodies that it takes: GWI_MEDIA(GW_MEDIA_…) */
	bool		open;
	bool		read_only;
	int64_t		max_body;
	int			timeout_ms;
	int			concurrency;	/* 0: any number */
	int			per_minute;		/* 0: any number */
	int			interval_ms;	/* 0: no stream */
	int			need;			/* number of the role that it wants, -1: none */
	gwi_route_state *state;
} gwi_route;

/* Whom a request may be of: a token, the anonymous role, or nobody. */
typedef struct gwi_who
{
	int64_t		id;				/* of the token; 0: none */
	uint8_t		sha256[32];
	unsigned	role;			/* oid; 0: such requests are refused */
	const char *role_name;
	int			n_scopes;		/* -1: all */
	const char **scopes;
	int			per_minute;		/* 0: any number */
	int64_t		expires_s;		/* of time(); INT64_MAX: never */
	const bool *member;			/* by gwi_route.need */
} gwi_who;

typedef struct gwi_book
{
	int			refs;			/* requests that refer to it, and one while it is the current one */
	void	   *context;		/* where it lies */
	int			routes;
	gwi_route  *route;
	int			whos;			/* a power of two */
	gwi_who   **who;			/* by the hash's first bytes, probed */
	gwi_who		anonymous;		/* role 0: not allowed */
	gwi_who		open;			/* of open routes */
	int			patterns[GW_MAX_LISTEN];	/* by listener */
	gw_pattern *pattern[GW_MAX_LISTEN];
} gwi_book;

extern gwi_book *gwi_current;	/* never NULL once connections are taken */

/* ---- connections */

typedef struct gwi_conn
{
	TAILQ_ENTRY(gwi_conn) node;
	struct MHD_Connection *mhd;
	int			fd;
	int			listener;
	struct gwi_request *request;	/* under way; NULL: none */
	int64_t		deadline_us;	/* it is cut then; 0: never, it waits for us */
	bool		cut;
	bool		ended;			/* the client will send no more, and what it sent is no whole request */
	bool		linger;			/* more may come than we read: when it is closed, that is thrown away for a while */
	uint64_t	address;		/* hash of the client's */
} gwi_conn;

TAILQ_HEAD(gwi_conns, gwi_conn);
extern struct gwi_conns gwi_conns;
extern int	gwi_n_conns;

/* ---- requests */

typedef enum gwi_state
{
	GWI_HEAD,					/* its first line came */
	GWI_BODY,					/* its head was judged */
	GWI_WAITING,				/* for an executor; suspended */
	GWI_RUNNING,				/* with one; suspended */
	GWI_PENDING,				/* for the time to be called again; suspended, unless it is a stream */
	GWI_ANSWERED				/* answer made */
} gwi_state;

/* What may be sent later, or never: of an answer that is polled for. */
typedef struct gwi_reply
{
	int			status;
	char	   *type;			/* malloc'd, all of them */
	char	   *headers;		/* lines */
	char	   *body;
	size_t		len;
} gwi_reply;

typedef struct gwi_request
{
	TAILQ_ENTRY(gwi_request) node;
	gwi_conn   *conn;
	gwi_book   *book;
	const gwi_route *route;		/* of book */
	gwi_state	state;
	uint64_t	serial;
	char	   *target;			/* as it came */
	char	   *work;			/* its copy, taken apart in place: path, query */
	gw_path		path;
	size_t		path_at;		/* its text in target, as it came */
	size_t		path_len;
	const gw_pattern *pattern;
	char	   *query;			/* in work; NULL: none */
	char		method_name[8];
	gw_method	method;
	bool		head;
	bool		announced;		/* a body was */
	bool		close;			/* the connection ends with the answer */
	bool		discard;		/* the rest of the body is thrown away: the answer is made */
	/* who */
	unsigned	role;
	bool		anonymous;
	int64_t		token;			/* 0: none */
	uint8_t		sha256[32];		/* of the token */
	/* content */
	char	   *headers;		/* JSON object */
	size_t		headers_len;
	char	   *etags;			/* If-None-Match; NULL: none */
	char		origin[256];	/* that may read the answer; "": none asked */
	gw_media	media;
	char		boundary[72];
	gw_body		body_kind;
	char	   *body;
	size_t		body_len;
	size_t		body_room;
	uint64_t	received;		/* bytes of body */
	int64_t		discard_most;	/* of which at most so many are thrown away, before the connection is cut */
	gw_fields  *fields;			/* NULL: none */
	/* time, monotonic */
	int64_t		came_us;
	int64_t		body_since_us;
	int64_t		deadline_us;	/* the function must have answered */
	int64_t		due_us;			/* GWI_PENDING: called again */
	/* calls */
	gw_kind		kind;
	int			box;			/* GWI_RUNNING: executor's */
	char	   *poll;			/* what the poll function gets */
	int			again_ms;
	int64_t		until_us;		/* then `later` is sent */
	gwi_reply	later;
	/* answer */
	int			status;
	struct MHD_Response *answer;
	size_t		answer_len;
	bool		queued;			/* libmicrohttpd has it */
	struct gwi_stream *stream;
} gwi_request;

TAILQ_HEAD(gwi_requests, gwi_request);
extern struct gwi_requests gwi_waiting; /* for an executor, first come first served */
extern struct gwi_requests gwi_pending; /* for the time; streams too */
extern gwi_request *gwi_in_box[GWI_MAX_BOXES];	/* GWI_RUNNING, by executor */
extern int	gwi_n_waiting;
extern int	gwi_n_streams;
extern int	gwi_idle;			/* executors that had nothing to do at the last look */
extern int64_t gwi_memory;		/* bytes of bodies and answers */

extern int64_t gwi_now_us(void);	/* monotonic */

/* io_http.c */
extern const char *gwi_http_open(const char *certificate, const char *key, void (*panic) (const char *what));	/* NULL, or what is wrong */
extern int	gwi_http_fd(void);
extern void gwi_http_run(void);
extern int	gwi_http_wait_ms(void); /* -1: for ever */
extern void gwi_http_take(int fd, const struct sockaddr *addr, socklen_t len, int listener, uint64_t address);	/* a new connection; fd is closed if it cannot */
extern void gwi_leave(gwi_request *r);	/* the list that it is in */
extern void gwi_resume(gwi_request *r); /* its answer is made, or its stream has news */

/* io_head.c: judges the head; r->answer is made where it is refused */
extern void gwi_head(gwi_request *r, struct MHD_Connection *mhd, const char *method);
extern const gwi_who *gwi_find(const gwi_book *book, const uint8_t sha256[32]);
extern bool gwi_usable(const gwi_who *who);
extern bool gwi_allows(const gwi_who *who, const gwi_route *route); /* by scope and role */

/* io_body.c */
extern void gwi_body_more(gwi_request *r, const char *data, size_t len);
extern void gwi_body_end(gwi_request *r);	/* parsed; r->answer is made where it is wrong */
extern void gwi_body_free(gwi_request *r);

/* io_answer.c: each makes r->answer, once.  Texts are UTF-8; none is a secret's. */
extern void gwi_error(gwi_request *r, int status, const char *message, const char *hint);
extern void gwi_answer(gwi_request *r, int status, const char *type, const char *headers, char *body, size_t len);	/* body: malloc'd, taken over */
extern void gwi_answer_stream(gwi_request *r, struct MHD_Response *answer);
extern void gwi_add(gwi_request *r, const char *name, const char *value);	/* a header; after either */
extern void gwi_reply_free(gwi_reply *reply);
/* Text within a JSON string (lower: its letters in lower case), at most 6 bytes a byte; what is not UTF-8 is taken for Latin-1.  Returns behind it. */
extern char *gwi_put_json(char *out, const char *text, size_t len, bool lower);

/* io_stream.c */
extern void gwi_stream_open(gwi_request *r, const char *body, size_t len);
extern void gwi_stream_news(gwi_request *r, const char *body, size_t len);	/* of the function's next call */
extern void gwi_stream_end(gwi_request *r); /* after what is still to be sent */
extern void gwi_stream_look(gwi_request *r, int64_t now);	/* heartbeats; clients that do not read */
extern void gwi_stream_free(gwi_request *r);

/* io_time.c */
extern void gwi_look_deadlines(int64_t now);	/* cuts connections whose time is over */
extern void gwi_look_away(int64_t now, void (*away) (gwi_request *r));	/* requests under way whose client is gone */
extern void gwi_linger(int fd);	/* about to be closed by libmicrohttpd */
extern void gwi_look_lingering(int64_t now);
extern int	gwi_n_lingering;
extern void gwi_expect(gwi_conn *conn, int64_t ms); /* the next thing within so long; -1: nothing */

#endif							/* MILLRACE_GATEWAY_IO_H */
