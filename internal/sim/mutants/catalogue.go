package main

// A mutant is a fault to be planted: one piece of text of one file, which must be
// there exactly once, replaced by another.
type mutant struct {
	name     string
	file     string // relative to the module
	old, new string
}

// mutants are the faults that the simulator must find.
var mutants = []mutant{
	{
		"acknowledge at w=1", "replication/write.go",
		"case have >= s.w:", "case have >= 1:",
	},
	{
		"absent when only one owner was asked", "replication/read.go",
		"case t.best < 0 && !t.expired && provesAll(&s.present, s.earlier, t.complete):", "case t.best < 0 && !t.expired && t.complete != 0:",
	},
	{
		"drop the index delta", "replication/listing.go",
		"return Listing{key: key, delta: delta}, ListingAction{Kind: AddToRow, Key: key, Row: delta}",
		"return Listing{key: key, delta: delta}, ListingAction{Kind: ListingOver, Key: key, Row: delta}",
	},
	{
		"count one node twice", "replication/write.go",
		"\tswitch have := s.count(taken); {\n",
		"\thave := s.count(taken)\n\tif s.answers[0].state == taken {\n\t\thave++\n\t}\n\tswitch {\n",
	},
	{
		"reuse a buffer too early", "replication/write_op.go",
		"\t\treturn rec.Retain()\n", "\t\treturn rec\n",
	},
	{
		"absent from an owner that is not complete", "replication/read.go",
		"\t\tcase Absent:\n\t\t\tif a.Complete {\n", "\t\tcase Absent:\n\t\t\tif true {\n",
	},
	{
		"acknowledge what the disk did not take", "vnode/vnode.go",
		"\t\tc.failed.Add(1)\n\t\treturn 0, err\n\t}\n\tswitch action {", "\t\tc.failed.Add(1)\n\t\treturn Stored, nil\n\t}\n\tswitch action {",
	},
	{
		"a late entry is not put in a late list", "replication/listing.go",
		"\tl.stage, l.lateKey = listingLate, index.LateKey(l.key, nowSeconds)\n\treturn ListingAction{Kind: AddToRow, Key: l.lateKey, Row: l.list}\n",
		"\tl.stage, l.lateKey = listingMarked, index.LateKey(l.key, nowSeconds)\n\treturn ListingAction{Kind: AddToRow, Key: l.key, Row: l.marked}\n",
	},
	{
		"a tail finishes a second early", "internal/tail/config.go",
		"return c.LatenessSeconds + c.OpenSeconds + c.SettleSeconds }", "return c.LatenessSeconds }",
	},
	{
		"recovery drops what follows a bad record", "bitcask/recover.go",
		"case st.offset >= seg.durable && (st.kind == holePart || tr != trustSealed && st.kind == tornTail || tr == trustNothing && last):",
		"case st.kind != wholeRecord || tr == trustNothing && last:",
	},
	{
		"merging rows loses an entry", "internal/index/merge.go",
		"\treturn append(append(merged, a...), b...)\n", "\treturn append(merged, a...)\n",
	},
	{
		"another value is taken for the same", "vnode/decide.go",
		"\treturn bitcask.Conflict, otherBytes\n", "\treturn bitcask.Same, noConflict\n",
	},
	{
		"unsynced appends are not marked", "bitcask/append.go",
		"\tif careless {\n\t\tstate = segDirty\n\t}\n", "",
	},
	{
		"a machine's restart is taken for a process's", "bitcask/evidence.go",
		"\tif e.boot != \"\" && e.m.bootID == e.boot {\n", "\tif e.boot != \"\" {\n",
	},
	{
		"always does not sync", "bitcask/append.go",
		"\tif op.err == nil && op.sync == SyncAlways {\n", "\tif false {\n",
	},
	{
		"a delta is not added to the row in memory", "vnode/repair.go",
		"\tcached.add(news, rec.TimestampMicros)\n", "\tcached.release(news)\n",
	},
	{
		"complete with fewer blobs than promised", "internal/index/watermark.go",
		"\t\tcase ok:\n", "\t\tcase ok || s.Final != nil:\n",
	},
	{
		"merging does not take what is lacking", "replication/mergemoves.go",
		"\t\tcase h == nil:\n\t\t\tlast.to,", "\t\tcase h == nil && i == 0:\n\t\tcase h == nil:\n\t\t\tlast.to,",
	},
	{
		"merging drops a value that loses its key", "replication/mergemoves.go",
		"\t\t\t\tmoves = rescueToo(moves, h, i)\n", "",
	},
	{
		"list before the version is adopted", "ring/settled.go",
		"\t\tif count < min(w, len(before)) {\n", "\t\tif count < 0 {\n",
	},
	{
		"complete from one peer", "replication/quorum.go",
		"return !p.never && (provesAll(&p.quorums[0], p.quorums[1:], complete) || !p.more && bits.OnesCount32(reached) == len(p.others))", "return reached != 0 && bits.Len32(complete) >= 0",
	},
	{
		"an old voter's document is accepted", "ring/version.go",
		"return cmp.Or(cmp.Compare(v.Era, other.Era), cmp.Compare(v.Index, other.Index))", "return cmp.Compare(v.Index, other.Index)",
	},
	{
		"fixed before a member has prepared", "ring/change.go",
		"\tif len(c.Waiting) == 0 {\n\t\tc.Phase = Fixed\n", "\tif len(c.Waiting) <= 1 {\n\t\tc.Phase = Fixed\n",
	},
	{
		"a promise is not persisted", "internal/agreed/gate.go",
		"\tif g.promise != g.persisted {\n", "\tif false {\n",
	},
	{
		"a newcomer is counted complete", "replication/quorum.go",
		"\tif len(rows) < 2 {\n", "\tif true {\n",
	},
	{
		"a source is dropped early", "ring/complete.go",
		"\t\t\tif c.From > a.From || c.Until < h.untilOf(a) {\n\t\t\t\tcontinue\n\t\t\t}\n", "",
	},
}
