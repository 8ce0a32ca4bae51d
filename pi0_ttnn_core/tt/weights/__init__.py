"""Checkpoint tensors to device tensors: conversion, folding, and the cache on disk."""
