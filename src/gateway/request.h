/*
 * request.h
 *	  What a request is made of, in words that need no server.
 */
#ifndef MILLRACE_GATEWAY_REQUEST_H
#define MILLRACE_GATEWAY_REQUEST_H

#define GW_MAX_VALUES 256		/* parameters and files of a request */

typedef enum gw_method
{
	GW_GET,						/* HEAD too: the body is not sent */
	GW_POST,
	GW_PUT,
	GW_PATCH,
	GW_DELETE,
	GW_OPTIONS,
	GW_N_METHODS
} gw_method;

/* Why a function is called. */
typedef enum gw_kind
{
	GW_CALL,					/* a request */
	GW_POLL,					/* the route's poll function, with argument `poll` alone */
	GW_EVENT					/* the same call again, for a stream of events */
} gw_kind;

/* Where a value came from: how it is turned into the argument's type. */
typedef enum gw_source
{
	GW_PATH,					/* {name} of the path, unescaped */
	GW_QUERY,					/* ?name= */
	GW_FIELD,					/* of a form: urlencoded, or a part of multipart without a file name */
	GW_FILE						/* a part with a file name: bytes */
} gw_source;

typedef enum gw_body
{
	GW_NO_BODY,
	GW_JSON,					/* application/json: members are arguments, or all of it is argument `body` */
	GW_RAW						/* anything else: argument `body`, bytea or text */
} gw_body;

#endif							/* MILLRACE_GATEWAY_REQUEST_H */
