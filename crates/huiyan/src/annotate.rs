//! Pictures with boxes for a person to look at. Evidence is never drawn upon: this is for `replay` only.

use anyhow::Context as _;
use embedded_graphics::mono_font::MonoTextStyle;
use embedded_graphics::mono_font::ascii::FONT_8X13_BOLD;
use embedded_graphics::pixelcolor::Rgb888;
use embedded_graphics::prelude::*;
use embedded_graphics::primitives::{PrimitiveStyle, Rectangle};
use embedded_graphics::text::{Baseline, Text};
use flow::{Detection, HostPicture, Matrix, NormBox, Polygon};
use gstreamer::prelude::*;

/// Where an annotated video goes: H.264 in MP4, one picture per look.
pub struct VideoOut {
    pipeline: gstreamer::Pipeline,
    source: gstreamer_app::AppSrc,
    size: (u32, u32),
}

impl VideoOut {
    /// Opens `path` for pictures of `width × height`.
    pub fn create(path: &std::path::Path, width: u32, height: u32) -> anyhow::Result<Self> {
        gstreamer::init()?;
        let launch = "appsrc name=in format=time block=true max-buffers=8 ! videoconvert ! \
                      x264enc speed-preset=veryfast ! h264parse ! mp4mux ! filesink name=out";
        let pipeline = gstreamer::parse::launch(launch)
            .context("GStreamer lacks an element for the annotated video; run `cargo xtask setup`")?
            .downcast::<gstreamer::Pipeline>()
            .map_err(|_| anyhow::anyhow!("the launch line is no pipeline"))?;
        let caps = gstreamer::Caps::builder("video/x-raw")
            .field("format", "RGB")
            .field("width", width as i32)
            .field("height", height as i32)
            // Each look is shown until the next one.
            .field("framerate", gstreamer::Fraction::new(0, 1))
            .build();
        let source = pipeline
            .by_name("in")
            .and_then(|e| e.downcast::<gstreamer_app::AppSrc>().ok())
            .context("the launch line has an appsrc")?;
        source.set_caps(Some(&caps));
        pipeline.by_name("out").context("the launch line has a filesink")?.set_property("location", path);
        pipeline.set_state(gstreamer::State::Playing)?;
        Ok(Self { pipeline, source, size: (width, height) })
    }

    /// Appends `canvas`, shown from `at` on. Pictures of another size are left out.
    pub fn push(&self, canvas: Canvas, at: std::time::Duration) -> anyhow::Result<()> {
        if (canvas.width, canvas.height) != self.size {
            return Ok(());
        }
        let mut buffer = gstreamer::Buffer::from_mut_slice(padded_rows(&canvas));
        {
            let buffer = buffer.get_mut().context("a new buffer has one owner")?;
            buffer.set_pts(gstreamer::ClockTime::try_from(at)?);
        }
        self.source.push_buffer(buffer).context("the video writer stopped")?;
        Ok(())
    }

    /// Writes the rest and closes the file.
    pub fn finish(self) -> anyhow::Result<()> {
        self.source.end_of_stream()?;
        let bus = self.pipeline.bus().context("a pipeline has a bus")?;
        let kinds = [gstreamer::MessageType::Eos, gstreamer::MessageType::Error];
        let message = bus.timed_pop_filtered(gstreamer::ClockTime::from_seconds(60), &kinds);
        self.pipeline.set_state(gstreamer::State::Null)?;
        match message.as_ref().map(|m| m.view()) {
            Some(gstreamer::MessageView::Eos(_)) => Ok(()),
            Some(gstreamer::MessageView::Error(error)) => {
                anyhow::bail!("the annotated video: {}", error.error())
            }
            _ => anyhow::bail!("the annotated video was not finished within 60 s"),
        }
    }
}

/// GStreamer's RGB has rows padded to four bytes.
fn padded_rows(canvas: &Canvas) -> Vec<u8> {
    let row = canvas.width as usize * 3;
    let stride = row.next_multiple_of(4);
    let mut out = vec![0; stride * canvas.height as usize];
    for (to, from) in out.chunks_exact_mut(stride).zip(canvas.rgb.chunks_exact(row)) {
        to[..row].copy_from_slice(from);
    }
    out
}

/// An RGB picture to draw on.
pub struct Canvas {
    width: u32,
    height: u32,
    rgb: Vec<u8>,
}

impl Canvas {
    /// A copy of `picture` in RGB.
    pub fn new(picture: &HostPicture) -> Self {
        let (width, height) = (picture.width(), picture.height());
        let mut rgb = Vec::with_capacity(width as usize * height as usize * 3);
        let [luma, cb, cr] = picture.planes();
        // Rec. ITU-R BT.601-7 and BT.709-6: the weights of red and blue.
        let (kr, kb) = match picture.matrix {
            Matrix::Bt601 => (0.299, 0.114),
            Matrix::Bt709 => (0.2126, 0.0722),
        };
        let (offset, scale, chroma) =
            if picture.full_range { (0.0, 1.0, 1.0) } else { (16.0, 255.0 / 219.0, 255.0 / 224.0) };
        for y in 0..height as usize {
            for x in 0..width as usize {
                let sample =
                    |plane: &flow::Plane| f32::from(plane.data[y / 2 * plane.stride + x / 2]) - 128.0;
                let l = (f32::from(luma.data[y * luma.stride + x]) - offset) * scale;
                let (b, r) = (sample(cb) * chroma, sample(cr) * chroma);
                let red = l + 2.0 * (1.0 - kr) * r;
                let blue = l + 2.0 * (1.0 - kb) * b;
                let green = (l - kr * red - kb * blue) / (1.0 - kr - kb);
                rgb.extend([red, green, blue].map(|v| v.clamp(0.0, 255.0) as u8));
            }
        }
        Self { width, height, rgb }
    }

    /// A picture in RGB, 3 bytes a pixel. `None` where these are not its pixels.
    pub fn of_rgb(width: u32, height: u32, rgb: Vec<u8>) -> Option<Self> {
        (rgb.len() == width as usize * height as usize * 3).then_some(Self { width, height, rgb })
    }

    /// As a JPEG file.
    pub fn jpeg(&self) -> anyhow::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let mut encoder = image::codecs::jpeg::JpegEncoder::new_with_quality(&mut bytes, 70);
        encoder.encode(&self.rgb, self.width, self.height, image::ExtendedColorType::Rgb8)?;
        Ok(bytes)
    }

    /// Writes a PNG file.
    pub fn png(&self, path: &std::path::Path) -> image::ImageResult<()> {
        let kind = image::ImageFormat::Png;
        image::save_buffer_with_format(path, &self.rgb, self.width, self.height, image::ColorType::Rgb8, kind)
    }

    /// Writes some words, from their upper left corner on.
    pub fn label(&mut self, x: i32, y: i32, text: &str, colour: Rgb888) {
        let style = MonoTextStyle::new(&FONT_8X13_BOLD, colour);
        let _ = Text::with_baseline(text, Point::new(x, y), style, Baseline::Top).draw(self);
    }

    /// Fills a rectangle, its right and lower edges left out.
    pub fn area(&mut self, from: (i32, i32), to: (i32, i32), colour: Rgb888) {
        let size = Size::new((to.0 - from.0).max(0) as u32, (to.1 - from.1).max(0) as u32);
        let area = Rectangle::new(Point::new(from.0, from.1), size);
        let _ = area.into_styled(PrimitiveStyle::with_fill(colour)).draw(self);
    }

    /// Draws a line.
    pub fn line(&mut self, from: (i32, i32), to: (i32, i32), colour: Rgb888) {
        let line =
            embedded_graphics::primitives::Line::new(Point::new(from.0, from.1), Point::new(to.0, to.1));
        let _ = line.into_styled(PrimitiveStyle::with_stroke(colour, 1)).draw(self);
    }

    /// Draws a thing's number under its box.
    pub fn track(&mut self, bbox: &NormBox, number: u64) {
        let at = self.point(bbox.x0(), bbox.y1());
        self.label(at.x + 4, at.y + 2, &format!("#{number}"), Rgb888::new(235, 235, 235));
    }

    /// Draws how far a clock is: a bar along the upper edge of a thing's place, full when its time has come.
    pub fn clock(&mut self, bbox: &NormBox, share: f32) {
        let (a, b) = (self.point(bbox.x0(), bbox.y0()), self.point(bbox.x1(), bbox.y0()));
        let full = a.x + ((b.x - a.x) as f32 * share.clamp(0.0, 1.0)) as i32;
        self.area((a.x, a.y - 4), (b.x, a.y), Rgb888::new(60, 60, 60));
        self.area((a.x, a.y - 4), (full, a.y), Rgb888::new(255, 170, 40));
    }

    /// Draws what is there, seen or not.
    pub fn truth(&mut self, bbox: &NormBox, text: &str) {
        self.boxed(bbox, text, 20, Rgb888::new(255, 210, 0), 2);
    }

    /// Draws a zone's outline.
    pub fn zone(&mut self, polygon: &Polygon) {
        let points: Vec<Point> = polygon.points().iter().map(|p| self.point(p.x, p.y)).collect();
        for (a, b) in points.iter().zip(points.iter().cycle().skip(1)) {
            let line = embedded_graphics::primitives::Line::new(*a, *b);
            let _ = line.into_styled(PrimitiveStyle::with_stroke(Rgb888::new(80, 160, 255), 1)).draw(self);
        }
    }

    /// Draws what was detected.
    pub fn detection(&mut self, detection: &Detection) {
        let text = format!("{} {:.2}", detection.class, detection.score.get());
        self.boxed(&detection.bbox, &text, -14, Rgb888::new(60, 200, 60), 1);
    }

    /// Draws a thing that takes part in a situation.
    pub fn situation(&mut self, bbox: &NormBox, text: &str) {
        // Inside the box: above it stands what was detected.
        self.boxed(bbox, text, 4, Rgb888::new(255, 60, 40), 3);
    }

    fn boxed(&mut self, bbox: &NormBox, text: &str, below: i32, colour: Rgb888, stroke: u32) {
        let (a, b) = (self.point(bbox.x0(), bbox.y0()), self.point(bbox.x1(), bbox.y1()));
        let _ =
            Rectangle::with_corners(a, b).into_styled(PrimitiveStyle::with_stroke(colour, stroke)).draw(self);
        let style = MonoTextStyle::new(&FONT_8X13_BOLD, colour);
        let at = Point::new(a.x + 4, (a.y + below).max(0));
        let _ = Text::with_baseline(text, at, style, Baseline::Top).draw(self);
    }

    fn point(&self, x: f32, y: f32) -> Point {
        Point::new((x * self.width as f32) as i32, (y * self.height as f32) as i32)
    }
}

impl OriginDimensions for Canvas {
    fn size(&self) -> Size {
        Size::new(self.width, self.height)
    }
}

impl DrawTarget for Canvas {
    type Color = Rgb888;
    type Error = std::convert::Infallible;

    fn draw_iter<I: IntoIterator<Item = Pixel<Rgb888>>>(&mut self, pixels: I) -> Result<(), Self::Error> {
        for Pixel(at, colour) in pixels {
            let inside = (0..self.width as i32).contains(&at.x) && (0..self.height as i32).contains(&at.y);
            if inside {
                let start = (at.y as usize * self.width as usize + at.x as usize) * 3;
                self.rgb[start..start + 3].copy_from_slice(&[colour.r(), colour.g(), colour.b()]);
            }
        }
        Ok(())
    }
}
