/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Gates that the guest's processors have to pass: see sysemu/run-gate.h
 */
#include "qemu/osdep.h"

#include "hw/core/cpu.h"
#include "qapi/error.h"
#include "qemu/error-report.h"
#include "sysemu/run-gate.h"
#include "sysemu/runstate.h"

static QLIST_HEAD(ClosedGates, RunGate) closed_gates =
    QLIST_HEAD_INITIALIZER(closed_gates);

static unsigned holds;

/* They look whether they may run. */
static void kick_processors(void)
{
    CPUState *cpu;

    CPU_FOREACH(cpu) {
        qemu_cpu_kick(cpu);
    }
}

void run_gate_close(RunGate *gate)
{
    if (!gate->closed) {
        gate->closed = true;
        QLIST_INSERT_HEAD(&closed_gates, gate, next);
        kick_processors();
    }
    /* Otherwise the gate is asked before it runs. */
    if (runstate_is_running()) {
        qemu_system_vmstop_request_prepare();
        qemu_system_vmstop_request(RUN_STATE_IO_ERROR);
    }
}

void processors_hold(void)
{
    if (!holds++) {
        kick_processors();
    }
}

void processors_release(void)
{
    assert(holds);
    if (!--holds) {
        kick_processors();
    }
}

bool processors_are_held(void)
{
    return holds;
}

bool run_gates_are_closed(void)
{
    return !QLIST_EMPTY(&closed_gates);
}

static bool run_gate_open(RunGate *gate, Error **errp)
{
    if (!gate->open(gate, errp)) {
        return false;
    }
    gate->closed = false;
    QLIST_REMOVE(gate, next);
    return true;
}

bool run_gates_open(Error **errp)
{
    Error *err = NULL;

    if (!run_gates_are_closed()) {
        return true;
    }

    while (run_gates_are_closed()) {
        if (!run_gate_open(QLIST_FIRST(&closed_gates), &err)) {
            if (errp) {
                error_propagate(errp, err);
            } else {
                error_report_err(err);
            }
            return false;
        }
    }
    kick_processors();
    return true;
}

bool run_gates_open_or_stop(void)
{
    if (run_gates_open(NULL)) {
        return true;
    }

    /* A VM that is running still has been asked to stop. */
    if (!runstate_is_running()) {
        /* From "running" it can become anything, from others it cannot. */
        runstate_set(RUN_STATE_RUNNING);
        runstate_set(RUN_STATE_IO_ERROR);
    }
    return false;
}

bool run_gates_keep_back(DeviceState *dev)
{
    RunGate *gate;

    QLIST_FOREACH(gate, &closed_gates, next) {
        if (gate->keeps_back(gate, dev)) {
            return true;
        }
    }
    return false;
}
