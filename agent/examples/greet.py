#!/usr/bin/env python3
"""Greets the person, passes on what Bio has to say of them, and shows the day."""
import datetime
import json
import sys


def say(kind, **rest):
    print(json.dumps({"kind": kind, **rest}), flush=True)  # flush: now, not at the end


request = json.load(sys.stdin)
say("status", text="Looking at the clock…")
now = datetime.datetime.now()
daytime = "morning" if now.hour < 12 else "afternoon" if now.hour < 18 else "evening"
say("text", text=f"Good {daytime}, {request['user']['name']}.\n\n")
if request["brief"]:
    say("text", text=request["brief"] + "\n\n")
if request["prompt"]:
    say("text", text=f"You asked: {request['prompt']}\n\n")
year, week, _ = now.isocalendar()
say("data", data={"date": now.date().isoformat(), "week": f"{week} of {year}"})
