/*
 * listen.h
 *	  millrace.http_listen: "[pipeline=]address:port, …".  Pure.
 */
#ifndef MILLRACE_GATEWAY_LISTEN_H
#define MILLRACE_GATEWAY_LISTEN_H

#define GW_MAX_LISTEN 16

typedef struct gw_listen
{
	char		pipeline[64];	/* "": all */
	char		address[64];	/* numeric, without brackets; "*": all of IPv4 and IPv6; "localhost": 127.0.0.1 */
	int			port;			/* 1 … 65535 */
} gw_listen;

/* Number of addresses (0: none), or -1 and what is wrong, a static text.  Nothing is allocated. */
extern int	gw_listen_parse(const char *text, gw_listen out[GW_MAX_LISTEN], const char **wrong);

#endif							/* MILLRACE_GATEWAY_LISTEN_H */
