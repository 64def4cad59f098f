/*
 * protobuf.h
 *	  A bounded reader of the protocol-buffer wire format.
 *
 * Reads fields one by one out of a byte range, without recursion, allocation or
 * copying; nested messages are ranges that the caller opens as readers of
 * their own, so nesting is as deep as the caller's code and no deeper.
 */
#ifndef MILLRACE_NN_PROTOBUF_H
#define MILLRACE_NN_PROTOBUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct pb_bytes
{
	const uint8_t *p;
	size_t		len;
} pb_bytes;

typedef struct pb_reader
{
	const uint8_t *p;
	const uint8_t *end;
	bool		bad;			/* malformed: set once, reading stops */
} pb_reader;

typedef enum pb_wire
{
	pb_varint = 0,
	pb_fixed64 = 1,
	pb_length = 2,
	pb_fixed32 = 5
} pb_wire;

typedef struct pb_field
{
	uint32_t	number;
	pb_wire		wire;
	uint64_t	value;			/* varint, fixed32 or fixed64 */
	pb_bytes	bytes;			/* length-delimited */
} pb_field;

extern pb_reader pb_open(pb_bytes range);

/* Next field; false at the end or when r->bad. */
extern bool pb_next(pb_reader *r, pb_field *f);

/* One varint of a packed range, advancing it; false when malformed or empty. */
extern bool pb_take_varint(pb_bytes *range, uint64_t *value);

#endif							/* MILLRACE_NN_PROTOBUF_H */
