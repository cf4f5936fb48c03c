"""Addresses of the pages. Every name stands in `access.doors.ROUTES`; one that does not, does not open."""

from __future__ import annotations

from django.urls import path

from web import finding, settling, views

urlpatterns = [
    path("", finding.home, name="home"),
    path("sign-in/", views.sign_in, name="sign_in"),
    path("sign-out/", views.sign_out, name="sign_out"),
    path("language/", views.language, name="language"),
    path("assets/<slug:digest>/<str:name>", views.asset, name="asset"),
    path("ledgers/", finding.ledgers, name="ledgers"),
    path("records/<slug:record>/", finding.record, name="record"),
    path("records/<slug:record>/pages/<int:page>/<slug:size>.jpg", finding.page_image, name="page_image"),
    path("records/<slug:record>/edit/", finding.edit, name="edit"),
    path("records/<slug:record>/attachments/<slug:attachment>/", finding.attachment, name="attachment"),
    path("records/<slug:record>/attach/", finding.attach, name="attach"),
    path("records/<slug:record>/detach/", finding.detach, name="detach"),
    path("batches/", settling.batches, name="batches"),
    path("batches/<slug:batch>/", settling.batch, name="batch"),
    path("batches/<slug:batch>/close/", settling.close_batch, name="close_batch"),
    path("queue/", settling.queue, name="queue"),
    path("queue/<slug:record>/", settling.waiting, name="waiting"),
    path("queue/<slug:record>/items/<slug:item>.png", settling.snippet, name="snippet"),
    path("queue/<slug:record>/settle/", settling.settle, name="settle"),
    path("queue/<slug:record>/refuse/", settling.refuse, name="refuse"),
]

handler400 = views.bad_request
handler403 = views.forbidden
handler404 = views.not_found
handler500 = views.failed
