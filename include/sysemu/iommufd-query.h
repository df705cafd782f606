/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Telling of iommufd objects: query-iommufd
 *
 * The object knows its descriptor and what has been asked of the kernel.  What
 * it is used for knows who uses it, and tells by a function that it registers.
 *
 * Everything is called with the big lock held.
 */
#ifndef SYSEMU_IOMMUFD_QUERY_H
#define SYSEMU_IOMMUFD_QUERY_H

#include "qapi/qapi-types-iommufd.h"
#include "sysemu/iommufd.h"

/* Add the address spaces that use @be to *@list. */
typedef bool IOMMUFDQuery(IOMMUFDBackend *be, IommufdAddressSpaceList **list,
                          Error **errp);

/* Called once, before any object is created. */
void iommufd_query_register(IOMMUFDQuery *query);

/**
 * iommufd_query_ioas: what the kernel says of an I/O address space
 *
 * Returns an IommufdAddressSpace with only that filled in, or NULL.
 */
IommufdAddressSpace *iommufd_query_ioas(IOMMUFDBackend *be, uint32_t ioas_id,
                                        Error **errp);

/* What the kernel says of the IOMMU that device @devid is behind, or NULL */
IommufdIommu *iommufd_query_iommu(IOMMUFDBackend *be, uint32_t devid);

#endif /* SYSEMU_IOMMUFD_QUERY_H */
