/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Gates that the guest's processors have to pass before they run
 *
 * While a gate is closed no processor of the guest runs, whoever starts it:
 * cpu_is_stopped() says that all are stopped.  Before the run state becomes
 * "running" each closed gate is asked to open, and says why when it does not;
 * the run state stays as it is then.
 *
 * They can also be held for a while, without anybody being asked.
 *
 * Everything is called with the big lock held.
 */
#ifndef SYSEMU_RUN_GATE_H
#define SYSEMU_RUN_GATE_H

#include "hw/qdev-core.h"
#include "qemu/queue.h"

typedef struct RunGate RunGate;

struct RunGate {
    /*
     * Do what is missing, so that the guest may run.  On failure the guest
     * goes on as little as before, and it can be tried again.
     */
    bool (*open)(RunGate *gate, Error **errp);

    /*
     * The guest does not know of @dev yet, since the gate is closed for what
     * @dev brought and has been since it came.
     */
    bool (*keeps_back)(RunGate *gate, DeviceState *dev);

    bool closed;
    QLIST_ENTRY(RunGate) next;
};

/**
 * run_gate_close: stop the guest's processors, and the VM
 *
 * The processors stop at once, that is, before the guest can see what its
 * devices do after this.  If the VM is running, its run state becomes
 * "io-error" soon: this may be called where nobody can wait for that, as in
 * the midst of a change of the memory map.  @gate is static, or open before it
 * is freed.
 */
void run_gate_close(RunGate *gate);

/* Some gate is closed: no processor may run. */
bool run_gates_are_closed(void);

/**
 * run_gates_open: open all gates, for the VM is to run
 *
 * Where there is nobody to tell why that fails, @errp is NULL, and the log
 * says it.
 */
bool run_gates_open(Error **errp);

/**
 * run_gates_open_or_stop: the same for those who cannot do anything else
 *
 * On failure the run state is "io-error", whatever it was.
 */
bool run_gates_open_or_stop(void);

/**
 * processors_hold: let no processor of the guest run until as many calls of
 * processors_release()
 *
 * This is for something that ends by itself, and soon.  The run state stays as
 * it is, and may change: nobody outside has to do anything.  The processor that
 * calls this does so from an access of the guest's; it finishes that access,
 * and with TCG the block of instructions that it is in.
 */
void processors_hold(void);
void processors_release(void);

/* Whether they are held */
bool processors_are_held(void);

/* Some gate is closed for what @dev brought, and the guest has not seen it. */
bool run_gates_keep_back(DeviceState *dev);

#endif /* SYSEMU_RUN_GATE_H */
