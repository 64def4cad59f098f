/*
 * owner.h
 *	  Our own fixed statements by SPI, as the extension's owner (core/spi_pg.h), by this room's names.
 */
#ifndef MILLRACE_STREAM_OWNER_H
#define MILLRACE_STREAM_OWNER_H

#include "core/spi_pg.h"

typedef mr_owner_save kfk_owner;

#define kfk_owner_begin mr_spi_begin
#define kfk_owner_end mr_spi_end
#define kfk_prepare mr_prepare

#endif							/* MILLRACE_STREAM_OWNER_H */
