/*
 * settings.h
 *	  The registry's configuration parameters.  Strings are never NULL.
 */
#ifndef MILLRACE_REGISTRY_SETTINGS_H
#define MILLRACE_REGISTRY_SETTINGS_H

extern char *reg_descriptor_model;	/* millrace.descriptor_model */
extern char *reg_classifier;	/* millrace.classifier */
extern char *reg_text_encoder;	/* millrace.text_encoder */
extern char *reg_detector;		/* millrace.detector */

#endif							/* MILLRACE_REGISTRY_SETTINGS_H */
