/*
 * address.h
 *	  Which addresses a server that no superuser vouches for may not name.
 */
#ifndef MILLRACE_ADDRESS_H
#define MILLRACE_ADDRESS_H

#include <stdbool.h>

struct sockaddr;

/* Is it of this machine, of a private network, multicast or the like, or of no IP family at all? */
extern bool mr_private_address(const struct sockaddr *address);

#endif							/* MILLRACE_ADDRESS_H */
