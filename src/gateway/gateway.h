/*
 * gateway.h
 *	  What the gateway's processes agree on: names, a request and its response
 *	  in shared memory, and the boxes they travel in.
 *
 * One I/O worker (worker/io_*) speaks HTTP and never runs a user's code; N
 * executors (worker/exec_*) run one function at a time and never see a socket.
 * The I/O worker makes a dynamic shared memory area, in which it writes each
 * request; an executor answers with a response in the same area.  A box belongs
 * to an executor; its state says whose turn it is, so that no lock is taken:
 *
 *	EMPTY --executor--> IDLE --I/O--> ASKED --executor--> RUNNING --executor--> DONE --I/O--> IDLE
 *
 * An executor that ends sets EMPTY; one that died took the server with it.  What is in a
 * request was checked by the I/O worker: the route exists, the token is good for it, sizes are
 * within limits, and every text is valid UTF-8 without NUL, but for bodies and files, which are bytes.
 *
 * Strings lie behind the struct and are named by gw_slice; all of it is plain
 * data without pointers.
 */
#ifndef MILLRACE_GATEWAY_H
#define MILLRACE_GATEWAY_H

#include "core/shared_pg.h"
#include "fmgr.h"
#include "gateway/request.h"
#include "port/atomics.h"
#include "storage/proc.h"
#include "utils/dsa.h"

#define GW_MAX_EXECUTORS 32
#define GW_MAX_GATEWAYS 8		/* databases of a server that have one */

#define GW_ROLE "millrace_gateway"	/* both kinds of processes connect as this role */

/* Bytes at offset `at` from the start of the request or response. */
typedef struct gw_slice
{
	uint64		at;
	uint64		len;
} gw_slice;

typedef struct gw_value
{
	gw_source	source;
	gw_slice	name;
	gw_slice	value;
	gw_slice	filename;		/* of GW_FILE */
	gw_slice	type;			/* of GW_FILE: media type as sent */
} gw_value;

typedef struct gw_request
{
	uint64		size;			/* of all of it */
	uint64		serial;			/* never used twice by a gateway */
	gw_kind		kind;
	gw_method	method;
	bool		read_only;
	bool		anonymous;		/* came without a token: 42501 is answered by 401 */
	Oid			role;			/* to run as */
	int			timeout_ms;
	int			max_response;	/* bytes */
	gw_slice	function;		/* as regprocedure writes it, qualified */
	gw_slice	method_name;	/* for request.method: HEAD, GET … */
	gw_slice	path;			/* for request.path */
	gw_slice	headers;		/* for request.headers: a JSON object, names in lower case, without authorization and cookie */
	gw_slice	poll;			/* GW_POLL: what the function gave (jsonb as text) */
	gw_body		body_kind;
	gw_slice	body;
	int			n_values;
	gw_value	value[FLEXIBLE_ARRAY_MEMBER];
} gw_request;

typedef struct gw_response
{
	uint64		size;
	int			status;			/* of HTTP */
	int			again_ms;		/* poll again after so long … */
	int			within_ms;		/* … until so long after the request came; then this is the answer.  0: this is the answer */
	uint32		run_us;
	char		sqlstate[6];	/* of an error, else "" */
	gw_slice	type;			/* media type; "": no body */
	gw_slice	headers;		/* lines "Name: value\n", checked */
	gw_slice	poll;			/* for the poll */
	gw_slice	body;
} gw_response;

#define gw_text(base, slice) ((const char *) (base) + (slice).at)

typedef enum gw_state
{
	GW_EMPTY,
	GW_IDLE,
	GW_ASKED,
	GW_RUNNING,
	GW_DONE
} gw_state;

typedef struct gw_box
{
	pg_atomic_uint32 state;		/* gw_state */
	int			pid;			/* of the executor; with proc set before IDLE */
	PGPROC	   *proc;
	uint64		serial;			/* of the request in it */
	pg_atomic_uint64 cancel;	/* serial of a request that nobody waits for any more; SIGUSR2 tells */
	bool		leaving;		/* set before DONE: the executor ends, so that EMPTY follows instead of IDLE */
	dsa_pointer request;
	dsa_pointer response;
} gw_box;

/* In the area: what the executors of a gateway attach to. */
typedef struct gw_hall
{
	PGPROC	   *io;				/* whose latch is set when a box is DONE */
	gw_box		box[GW_MAX_EXECUTORS];
} gw_hall;

/* One gateway, in the block of shared memory. */
typedef struct gw_anchor_entry
{
	Oid			database;		/* InvalidOid: unused */
	int			io_pid;			/* 0: it ended; executors end too */
	uint64		generation;		/* of this I/O worker */
	dsa_handle	area;
	dsa_pointer hall;
} gw_anchor_entry;

typedef struct gw_anchor
{
	mr_shared_head head;		/* lock: guards what follows */
	uint64		next_generation;
	gw_anchor_entry gateway[GW_MAX_GATEWAYS];
} gw_anchor;

#define GW_ANCHOR_NAME "millrace gateway"
#define gw_anchor_block() ((gw_anchor *) mr_shared_block(GW_ANCHOR_NAME, sizeof(gw_anchor)))

/* gateway_init() reserves sizeof(gw_anchor) and defines the settings, all millrace.http_*. */

/*
 * Whose request this process runs, InvalidOid outside of one: the executor sets it before a function is called and takes it back
 * when the transaction ends.  Functions that are SECURITY DEFINER ask for it by millrace.request_role(), since session_user is GW_ROLE.
 * Both libraries see one place, which lives as long as the process.
 */
#define GW_REQUEST_ROLE "millrace request role"

static inline void
gw_set_request_role(Oid role)
{
	*find_rendezvous_variable(GW_REQUEST_ROLE) = (void *) (uintptr_t) role;
}

#endif							/* MILLRACE_GATEWAY_H */
